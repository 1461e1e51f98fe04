"""What bends and spoils single columns: skew, tails, steps; columns that repeat others or tell nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from autometa_plugins.tabular.priors.draft import Size, pick_columns, pick_rows, standardise
from autometa_plugins.tabular.priors.draws import Draws


def spoil_columns(draws: Draws, columns: Tensor, size: Size) -> Tensor:
    """Cut columns off from the target in some tables; make numeric ones repeat others."""
    n_tables, n = size.n_tables, size.n_columns
    if draws.chance(0.25):
        cut = draws.uniform(0, 1, n_tables, 1, n) < draws.uniform(0, 0.6, n_tables, 1, 1)
        cut[..., draws.count(0, n - 1)] = False
        columns = torch.where(cut, pick_rows(columns, draws.orders(n_tables, size.n_rows)), columns)
    if size.n_numeric > 3 and draws.chance(0.2):
        numbers = columns[..., : size.n_numeric]
        repeats = draws.uniform(0, 1, n_tables, size.n_numeric) < 0.3
        source = draws.whole(0, size.n_numeric - 1, n_tables, size.n_numeric)
        source = torch.where(repeats, source, torch.arange(size.n_numeric))
        noise = 0.1 * draws.normal(*numbers.shape) * draws.uniform(0, 1, n_tables, 1, size.n_numeric)
        numbers = pick_columns(numbers, source) + repeats.unsqueeze(1) * noise
        columns = torch.cat([numbers, columns[..., size.n_numeric :]], dim=-1)
    return columns


def bend_numbers(draws: Draws, columns: Tensor, size: Size) -> Tensor:
    """Give numbers other distributions, more or fewer of them in every table, and standardise them."""
    shape = (size.n_tables, 1, size.n_numeric)
    x = standardise(columns[..., : size.n_numeric])
    kind = draws.uniform(0, 1, *shape)
    bent = draws.uniform(0, 1, *shape) < draws.uniform(0, 1.2, size.n_tables, 1, 1)
    kind = torch.where(bent, kind, 1.0)
    power = draws.log_uniform(0.4, 2.5, *shape)
    sign = 2.0 * draws.whole(0, 1, *shape) - 1
    x = torch.where(kind < 0.3, sign * torch.exp(power * x.clamp(-4, 4)), x)
    x = torch.where((kind >= 0.3) & (kind < 0.42), x * x.abs() ** power, x)
    x = torch.where((kind >= 0.42) & (kind < 0.5), torch.special.ndtr(x), x)
    x = torch.where((kind >= 0.5) & (kind < 0.62), torch.relu(x - draws.uniform(-1.2, 1, *shape)), x)
    x = torch.where((kind >= 0.62) & (kind < 0.8), (x / draws.log_uniform(0.3, 2, *shape)).round(), x)
    x = torch.where((kind >= 0.8) & (kind < 0.9), (x > draws.uniform(-1.2, 1.2, *shape)).to(x.dtype), x)
    share = draws.log_uniform(0.003, 0.05, *shape) * (draws.uniform(0, 1, *shape) < 0.1)
    wild = draws.uniform(0, 1, *x.shape) < share
    x = torch.where(wild, x * draws.log_uniform(3, 30, *shape), x)
    return torch.cat([standardise(x), columns[..., size.n_numeric :]], dim=-1)
