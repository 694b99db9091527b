"""What several scoring methods need: forward passes, gradients, reference inputs, layouts."""
