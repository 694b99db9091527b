"""Methods that write a state or the target as a sum over tokens."""
