"""`adapler run --policy`: the stages of a policy's training one after the other."""
