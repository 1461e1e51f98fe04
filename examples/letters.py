"""Meta-train on drawn letters of some alphabets, then tell apart letters that were never seen, from one example each.

The control beside every score is the same network without meta-training.
"""

from __future__ import annotations

import numpy as np

import autometa as am

N_TASKS = 50


def main() -> None:
    tasks = am.make_tasks("glyphs", size=14, n_way=5, n_shot=1, n_query=5)
    trained = am.FewShotClassifier("prototypical", backbone="conv4", max_steps=100, device="cpu", random_state=0)
    untrained = am.FewShotClassifier("prototypical", backbone="conv4", max_steps=0, device="cpu", random_state=0)
    trained.meta_fit(tasks)
    untrained.meta_fit(tasks)

    held_out = tasks.sample(N_TASKS, split="test", seed=0)  # classes of the test split: never seen above
    scores = np.empty((N_TASKS, 2))
    for i in range(N_TASKS):
        X, y = held_out.support.x[i].numpy(), held_out.support.y[i].numpy()
        X_query, y_query = held_out.query.x[i].numpy(), held_out.query.y[i].numpy()
        scores[i] = [model.fit(X, y).score(X_query, y_query) for model in (trained, untrained)]

    gain = scores[:, 0] - scores[:, 1]
    error = gain.std(ddof=1) / np.sqrt(N_TASKS)
    print(f"meta-trained {scores[:, 0].mean():.1%}, untrained {scores[:, 1].mean():.1%}, chance 20%")
    print(f"gain {gain.mean():.1%} ± {1.96 * error:.1%} over {N_TASKS} held-out tasks")


if __name__ == "__main__":
    main()
