"""What each training command does, one file a command, and the pipeline of all of them."""
