"""Who does the work: shards in, finished shards out, in the same order.

worker     one model and what it writes; every engine has one or several
local      in this process
processes  in several processes of this machine
on_ray     in actors of a Ray cluster
"""
