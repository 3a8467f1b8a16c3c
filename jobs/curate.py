"""The steps of a turn up to the curated dataset; `flywheel curate show` and `explain` then tell about it.

ray job submit --working-dir . -- python jobs/curate.py --config configs/local/flywheel.yaml --set home=$PWD/.flywheel
"""

if __name__ == "__main__":
    import _source  # noqa: F401

    from flywheel.workflow.turns.job import run

    run(__doc__, until="curate")
