"""A file of any size is classified row by row, in constant memory, and goes on after it was killed.

settings    what can be asked for
reading     rows -> shards, the unit of all work; their bounds depend on the input alone
classifier  a shard's texts -> labels, probabilities, lengths; its batches depend on the shard alone
rows        a shard's results -> the bytes of the output, in one of its formats
engines     shards -> finished shards, in their order: in this process, in several, or on a Ray cluster
store       finished shards -> a journal that survives a kill, and the output at the end
run         all of it together
"""
