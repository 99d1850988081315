"""A metric of a new group needs no second list: plan and data dictionary read the groups from the metric table."""

from rankseg_rma.evaluation.options import EvaluationOptions
from rankseg_rma.evaluation.plan import make_plan
from rankseg_rma.metrics import METRIC_TABLE, list_metrics
from rankseg_rma.tables.dictionary import describe_columns


def test_an_evaluation_of_everything_scores_every_metric():
    plan = make_plan(EvaluationOptions(slices=True), [])
    assert {metric.name for metric in list_metrics(plan.groups, ())} == set(METRIC_TABLE)


def test_options_leave_out_whole_groups():
    everything = make_plan(EvaluationOptions(slices=True), []).groups
    assert set(everything) - set(make_plan(EvaluationOptions(slices=False), []).groups) == {"slice"}
    assert set(everything) - set(make_plan(EvaluationOptions(slices=True, surface=False), []).groups) == {"surface"}


def test_the_dictionary_explains_every_metric():
    text = describe_columns()
    assert not [name for name in METRIC_TABLE if f"\n| {name} | " not in text]
