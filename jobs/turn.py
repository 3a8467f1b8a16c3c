"""One whole turn as a Ray job; resumes where a killed one was.

ray job submit --working-dir . -- python jobs/turn.py --config configs/local/flywheel.yaml --set home=$PWD/.flywheel
"""

if __name__ == "__main__":
    import _source  # noqa: F401

    from flywheel.workflow.turns.job import run

    run(__doc__)
