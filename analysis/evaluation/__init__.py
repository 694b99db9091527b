"""Methods x layers x documents: the plan, the scores, the verdicts, the cache."""
