"""The order of the stages, and nothing else.

    ingest -> label -> filter -> train -> eval -> report

Each module here is the joint of one stage: what its result depends on, which files it needs, and which rooms do its
work. The rooms know nothing of each other; they meet in the files of the run folder.
"""

from mlxdistill.pipeline import evaluate, filter, ingest, label, report, train
from mlxdistill.pipeline.runner import Ran, run_stages
from mlxdistill.pipeline.stage import Options, Reporter, task_of

STAGES = (ingest.STAGE, label.STAGE, filter.STAGE, train.STAGE, evaluate.STAGE, report.STAGE)

__all__ = ["STAGES", "Options", "Ran", "Reporter", "run_stages", "task_of"]
