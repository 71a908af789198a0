import matplotlib.text
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kws_model import report

MATRIX = np.array([[8, 1, 0], [0, 5, 3], [0, 0, 0]])
LABELS = ("no", "up", "yes")


def texts(figure):
    """What is written in a figure."""
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def test_flows_are_stacked_without_gaps_in_the_order_of_the_other_side():
    # With gaps of 10: on the left no begins at 0, up at 9 + 10; on the right no at 0, up at
    # 8 + 10, yes at 8 + 6 + 20.
    assert report.flows(MATRIX, gap=10) == [
        report.Flow(0, 0, clips=8, left=0, right=0),
        report.Flow(0, 1, clips=1, left=8, right=18),
        report.Flow(1, 1, clips=5, left=19, right=19),
        report.Flow(1, 2, clips=3, left=24, right=34),
    ]


@pytest.mark.parametrize(("total", "least"), [(1, 2), (2000, 2), (2001, 3), (20_000, 20)])
def test_a_flow_of_a_thousandth_of_the_clips_is_drawn(total, least):
    assert report.threshold(total) == least


def test_the_alluvial_diagram_says_how_many_clips_it_hides():
    written = texts(report.alluvial_figure(MATRIX, LABELS, title="kws, test split"))

    assert "hidden: 1 clips in flows of fewer than 2" in written
    assert "kws, test split" in written
    assert {"no  9", "up  8", "yes  0", "no  8", "up  6", "yes  3"} <= set(written)


@pytest.mark.parametrize("count", [1, 2, 12, 35])
def test_no_label_of_the_alluvial_diagram_touches_another(count):
    # The hardest case: one label has nearly all clips, the others' bars are all but nothing.
    matrix = np.diag([1000] + [1] * (count - 1))
    figure = report.alluvial_figure(matrix, [f"word{i}" for i in range(count)], title="t")

    renderer = FigureCanvasAgg(figure).get_renderer()
    shown = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    boxes = [text.get_window_extent(renderer) for text in shown]
    for index, box in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert not box.overlaps(other)


def test_the_confusion_matrix_writes_every_count_but_zero():
    written = texts(report.confusion_figure(MATRIX, LABELS, title="kws, test split"))

    assert {"8", "1", "5", "3", "no", "up", "yes", "kws, test split"} <= set(written)
    assert "0" not in written


@pytest.mark.parametrize("count", [1, 2, 12, 35])
def test_counts_fit_their_cells(count):
    matrix = np.full((count, count), 4321)
    figure = report.confusion_figure(matrix, [f"word{i}" for i in range(count)], title="t")

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    cell = np.diff(axes.transData.transform([(0, 0), (1, 0)])[:, 0])[0]
    widths = [text.get_window_extent(renderer).width for text in axes.texts]
    assert len(widths) == count**2
    assert max(widths) < cell


@pytest.mark.parametrize("draw", [report.confusion_figure, report.alluvial_figure])
def test_a_split_without_errors_or_clips_is_drawn(draw, tmp_path):
    for matrix in (np.diag([3, 2, 1]), np.zeros((3, 3), np.int64)):
        report.save(draw(matrix, LABELS, title="t"), tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]
