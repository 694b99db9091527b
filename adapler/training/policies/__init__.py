"""How removal policies beside AdapLeR train: in stages, all with one trainer.

settings has what a command line says of it, base the protocol and the registry, stage what a stage is, trainer one
stage's training. The other files are the trainings of one system each. `adapler.training.stages.policies.train` puts
the stages after one another.
"""
