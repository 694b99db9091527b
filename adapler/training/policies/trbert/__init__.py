"""How TR-BERT's policy trains: drawn decisions, their rewards, and imitation."""
