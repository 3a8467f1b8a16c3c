"""One whole turn as a Ray job, if one is due; several at once do one turn.

ray job submit --working-dir . -- python jobs/run.py --config configs/local/flywheel.yaml --set home=$PWD/.flywheel
"""

if __name__ == "__main__":
    import _source  # noqa: F401

    from flywheel.workflow.turns.job import run_if_due

    run_if_due(__doc__)
