"""What is known of a trained model, and the model card that says it.

origin reads a folder's task and pre-trained encoder, facts gathers all that was measured of these weights, text writes
the card.
"""
