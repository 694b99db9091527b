"""The speed-performance table and its curves: every system on the same backbone, data, packing and FLOPs count.

    python -m benchmarks.tradeoff --backbone "$(python -m adapler.minilm)" --data-root DATA --tasks mrpc --plan

What happens to a run, and in which file:

1. A system and a recipe `configs/TASK/SYSTEM.yaml` are the points of one training: systems.
2. The points without a record become jobs, in an order, with the minutes they will take: plan.
3. Each of its points is trained (`adapler run`, `adapler finetune`) and measured, in processes of their own: work.
4. A trained point is measured on validation, a threshold scale is chosen, and then test is read: measure, timing.
5. A point is one JSON record, and its test predictions are columns of the task's Parquet: records.
6. Of each system one point is chosen on validation, and one at each speedup that is asked for, and they are compared
   with AdapLeR: selection, report/comparison, report/levels.
7. Records become table.csv, levels.csv, .json, .md, .tex and figures: report.
8. `benchmarks.tradeoff.examples` draws texts.
"""
