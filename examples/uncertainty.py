"""How sure is a prediction? A neural process tells, and becomes surer with every example."""

from __future__ import annotations

import numpy as np

import autometa as am

N_TASKS = 100


def main() -> None:
    functions = am.make_tasks("gaussian_process", n_shot=(1, 40), n_query=20)
    process = am.FewShotRegressor("tnp", max_steps=700, device="cpu", random_state=0).meta_fit(functions)
    held_out = am.make_tasks("gaussian_process", n_shot=40, n_query=20).sample(N_TASKS, split="test", seed=0)
    print("examples  error  deviation told  within its 95% interval")
    for n_shot in (1, 5, 10, 20, 40):
        errors, deviations = [], []
        for i in range(N_TASKS):
            x, y = held_out.support.x[i].numpy(), held_out.support.y[i, :, 0].numpy()
            x_query, y_query = held_out.query.x[i].numpy(), held_out.query.y[i, :, 0].numpy()
            mean, std = process.fit(x[:n_shot], y[:n_shot]).predict(x_query, return_std=True)
            errors.append(y_query - mean)
            deviations.append(std)
        error, deviation = np.concatenate(errors), np.concatenate(deviations)
        within = np.mean(np.abs(error) < 1.96 * deviation)
        print(f"{n_shot:8d}  {np.sqrt(np.mean(error**2)):5.2f}  {deviation.mean():14.2f}  {within:23.1%}")


if __name__ == "__main__":
    main()
