"""The steps of a turn up to the signals of every candidate.

ray job submit --working-dir . -- python jobs/score.py --config configs/local/flywheel.yaml --set home=$PWD/.flywheel
"""

if __name__ == "__main__":
    import _source  # noqa: F401

    from flywheel.workflow.turns.job import run

    run(__doc__, until="score")
