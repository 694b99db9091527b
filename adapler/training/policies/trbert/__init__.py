"""How TR-BERT's policy trains: drawn decisions, their rewards, imitation of a guide; its stages."""
