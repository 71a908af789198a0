import pytest
from apache_beam.options.pipeline_options import DirectOptions

from pipelines import beam_runner

CORES = beam_runner.cores()


@pytest.mark.parametrize(
    ("flags", "name", "num_workers"),
    [
        ((), "FnApiRunner", CORES),
        (("--runner=DirectRunner",), "FnApiRunner", CORES),
        (("--direct_num_workers=3",), "FnApiRunner", 3),
        (("--direct_num_workers", "0"), "FnApiRunner", CORES),
        (("--direct_running_mode=multi_threading",), "FnApiRunner", None),
        (("--runner=PrismRunner",), "PrismRunner", None),
        (("--runner", "FlinkRunner", "--flink_master=[local]"), "FlinkRunner", None),
    ],
)
def test_the_local_runner_is_the_default_and_others_are_used_when_named(flags, name, num_workers):
    where = beam_runner.parse(flags)
    assert (where.name, where.num_workers) == (name, num_workers)
    assert where.name in str(where)
    if num_workers:
        assert where.options.view_as(DirectOptions).direct_num_workers == num_workers


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--runnr=FlinkRunner", r"Beam has no option --runnr; did you mean --runner\?"),
        ("--flink_mster=x", r"did you mean --flink_master\?"),
        ("--no_such_thing_at_all", "Beam has no option --no_such_thing_at_all$"),
        ("--direct_num_worker=2", r"did you mean --direct_num_workers\?"),
        ("--direct_num_workers=two", "argument --direct_num_workers: invalid int value: 'two'"),
        ("stray", "'stray' is no flag of Beam"),
    ],
)
def test_a_typo_in_a_beam_option_is_an_error(flag, message):
    with pytest.raises(ValueError, match=f"after --: .*{message}"):
        beam_runner.parse((flag,))


@pytest.mark.parametrize(
    ("report", "line"),
    [
        ("Traceback\n  File x\nValueError: no such word [while running 'A']", "no such word"),
        (
            "OSError: [Errno 28] No space left on device: '/x' [while running 'B-ptransform-3']",
            "/x: No space left on device",
        ),
        (
            "ValueError: first\n\nDuring handling\n\nRuntimeError: PermissionError: "
            "[Errno 13] Permission denied: '/y' [while running 'C']",
            "/y: Permission denied",
        ),
        ("a.b.KeyError: 'word'", "KeyError: 'word'"),
        ("the engine  went\naway", "the job failed: the engine went away"),
    ],
)
def test_a_worker_s_failure_is_one_line(report, line):
    assert beam_runner.failure_line(report) == line
