"""The steps of a turn up to the signals of every candidate.

ray job submit -- python jobs/score.py --config configs/local/flywheel.yaml
"""

if __name__ == "__main__":
    from flywheel.workflow.job import run

    run(__doc__, until="score")
