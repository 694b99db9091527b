"""AdapLeR itself: its configuration, its predictors, the two ways through its layers, its FLOPs."""
