"""The README's PyTorch snippet, in an environment that has PyTorch and no TensorFlow.

`make test-torch` runs it: PyTorch with its CUDA libraries takes 5 GB, which nobody should wait for
otherwise.
"""

import importlib.util
import pathlib
import re
import subprocess
import sys

from tests.pipelines.recordings import write_corpus

ROOT = pathlib.Path(__file__).parents[2]


def test_the_snippet_reads_a_dataset_prepared_by_the_base_install(tmp_path, monkeypatch, capsys):
    assert importlib.util.find_spec("tensorflow") is None
    write_corpus(tmp_path / "speech_commands", speakers=40)
    flags = ["--input", "speech_commands", "--output", "datasets/sc"]
    kws = pathlib.Path(sys.executable).with_name("kws")
    subprocess.run([kws, "prepare", *flags], cwd=tmp_path, check=True, capture_output=True)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python torch\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README's PyTorch snippet", "exec"), {})
    assert capsys.readouterr().out.strip() == "torch.Size([32, 98, 257]) torch.float16"
