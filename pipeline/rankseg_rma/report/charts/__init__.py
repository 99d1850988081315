"""The charts of an evaluation, drawn from its tables; matplotlib only, safe for colour-blind readers and grey print.

`CHARTS` lists them in the order of the page: the page, the folder of figures and the command that draws them go through
it. Colour never stands alone: decoders also differ by mark, line or hatching, labels by mark.
"""

# The order of the page, so the linter may not sort these.
# isort: off
from rankseg_rma.report.charts import paired
from rankseg_rma.report.charts import volumes
from rankseg_rma.report.charts import probabilities
from rankseg_rma.report.charts.base import CHARTS, PNG_DPI, Chart, chart, figure_bytes, shorten
# isort: on

__all__ = ["CHARTS", "PNG_DPI", "Chart", "chart", "figure_bytes", "paired", "probabilities", "shorten", "volumes"]
