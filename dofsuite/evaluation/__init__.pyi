from dofsuite.evaluation.job import compute_rows as compute_rows
from dofsuite.evaluation.job import rank_and_world_size as rank_and_world_size
from dofsuite.evaluation.job import seed_of as seed_of
from dofsuite.evaluation.report import ImageSheet as ImageSheet
from dofsuite.evaluation.report import write_report as write_report
from dofsuite.evaluation.tables import Table as Table
