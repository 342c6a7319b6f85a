from dofsuite.evaluation.job import place as place
from dofsuite.evaluation.job import rows as rows
from dofsuite.evaluation.job import seed_of as seed_of
from dofsuite.evaluation.report import Picture as Picture
from dofsuite.evaluation.report import Table as Table
from dofsuite.evaluation.report import write_report as write_report
