"""What the recorded attacks come to in double precision, where `attacks_*.safetensors` holds f32 only.

    python make_double.py CHECKOUT      # a clone of github.com/fra31/auto-attack; needs torch, numpy, safetensors

Writes double_resnet.safetensors and double_tiny.safetensors. APGD and Square are written here from their papers and
the released code's behavior, and first have to repeat the recorded f32 runs: every step size of APGD, every margin
of Square to 1e-4. FAB is the released class, run in double precision.
"""

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "docs"))
from crosscheck import network  # noqa: E402

EPS = 8 / 255


def cross_entropy(z, y, _):
    return F.cross_entropy(z, y, reduction="none")


def ratio(z, y, target):
    """The difference-of-logits ratio, toward a target where there is one."""
    top = z.sort(1, descending=True)
    z_y = z.gather(1, y[:, None])[:, 0]
    if target is None:
        other = torch.where(top.indices[:, 0] == y, top.values[:, 1], top.values[:, 0])
        return (other - z_y) / (top.values[:, 0] - top.values[:, 2] + 1e-12)
    lower = (top.values[:, 2] + top.values[:, 3]) / 2
    return (z.gather(1, target[:, None])[:, 0] - z_y) / (top.values[:, 0] - lower + 1e-12)


def apgd(f, x, y, start, iterations, loss, target):
    """Losses [iterations + 1, N], the step of each iteration [iterations, N], whether the label always held."""

    def evaluate(point):
        point = point.detach().requires_grad_()
        z = f(point)
        value = loss(z, y, target)
        return z.argmax(1) == y, value.detach(), torch.autograd.grad(value.sum(), point)[0]

    def clip(point):
        return point.clamp(x - EPS, x + EPS).clamp(0, 1)

    held, value, gradient = evaluate(start)
    point, old, best, best_value, best_gradient = start, start, start, value, gradient
    step = torch.full_like(value, 2 * EPS)
    halved, at_checkpoint = torch.ones_like(held), value
    before, rises, since = torch.zeros_like(value), torch.zeros_like(value), 0
    window = max(int(0.22 * iterations), 1)
    shrink, least = max(int(0.03 * iterations), 1), max(int(0.06 * iterations), 1)
    losses, steps = [value], []
    for i in range(iterations):
        share, momentum, old = (0.75 if i else 1.0), point - old, point
        along = clip(point + step[:, None, None, None] * gradient.sign())
        point = clip(point + (along - point) * share + momentum * (1 - share))
        steps.append(step)
        holds, value, gradient = evaluate(point)
        held = held & holds
        losses.append(value)
        rises, before, since = rises + (value > before), value, since + 1
        better = value > best_value
        best_value = torch.where(better, value, best_value)
        best = torch.where(better[:, None, None, None], point, best)
        best_gradient = torch.where(better[:, None, None, None], gradient, best_gradient)
        if since == window:
            halved = (rises <= 0.75 * since) | (~halved & (at_checkpoint >= best_value))
            step = torch.where(halved, step / 2, step)
            point = torch.where(halved[:, None, None, None], best, point)
            gradient = torch.where(halved[:, None, None, None], best_gradient, gradient)
            at_checkpoint, rises, since = best_value, torch.zeros_like(value), 0
            window = max(window - shrink, least)
    return torch.stack(losses), torch.stack(steps), held


def square(f, x, y, stripes, places, colors):
    """Margins at the points found, and how many points were asked about."""

    def margin(rows, points):
        with torch.no_grad():
            z = f(points)
        z_y = z.gather(1, y[rows, None])[:, 0]
        return z_y - z.scatter(1, y[rows, None], -torch.inf).max(1).values

    size = x.shape[2]
    rows = torch.arange(len(x))
    best = (x + EPS * stripes).clamp(0, 1)
    value, asked = margin(rows, best), torch.ones(len(x))
    for tried, ((top, left), color) in enumerate(zip(places.long().tolist(), colors)):
        rows = torch.nonzero(value > 0)[:, 0]
        if not len(rows):
            break
        halvings = sum(tried > after for after in (10, 50, 200, 500, 1000))
        side = max(int(round((0.8 / 2**halvings * size * size) ** 0.5)), 1)
        move = torch.zeros_like(x[:1])
        move[:, :, top : top + side, left : left + side] = 2 * EPS * color[:, None, None]
        near = x[rows]
        points = (best[rows] + move).clamp(near - EPS, near + EPS).clamp(0, 1)
        new = margin(rows, points)
        taken = (new < value[rows]) | (new <= 0)
        best[rows[taken]], value[rows[taken]] = points[taken], new[taken]
        asked[rows] += 1
    return value, asked


def fab(checkout, f, x, y, rank, iterations):
    sys.path.insert(0, checkout)
    from autoattack.fab_pt import FABAttack_PT

    attack = FABAttack_PT(f, n_restarts=1, n_iter=iterations, eps=EPS, norm="Linf", device="cpu")
    attack.target_class = rank
    single = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double  # the class casts its images
    torch.set_default_dtype(torch.float64)
    found = attack.attack_single_run(x.clone(), y, use_rand_start=False, is_targeted=rank is not None)
    torch.set_default_dtype(torch.float32)
    torch.Tensor.float = single
    distance = (found - x).abs().flatten(1).max(1).values
    return torch.where(f(found).argmax(1) == y, torch.inf, distance)


def main():
    for name, arch, runs, queries, ranks in (
        ("resnet", "resnet18", "ce_20 ce_50 ce_100 dlr_100 t2_100 t3_100 t10_100", 300, (2, 6, 10, None)),
        ("tiny", "tiny_cnn", "", 1000, (None,)),
    ):
        recorded = load_file(HERE / f"attacks_{name}.safetensors")
        f = network(HERE / f"net_{name}.safetensors", arch).requires_grad_(False)
        f64 = copy.deepcopy(f).double()
        x, y = recorded["x_u8"].float() / 255, recorded["y"].long()
        double = {}
        for run in runs.split():
            target = recorded.get(f"apgd/{run}/y_target")
            loss = cross_entropy if run.startswith("ce") else ratio
            how = (int(run.split("_")[1]), loss, None if target is None else target.long())
            start = recorded["apgd/x_init"]
            _, steps, _ = apgd(f, x, y, start, *how)
            assert torch.equal(steps, recorded[f"apgd/{run}/step_size"]), f"{run} is not the recorded ascent"
            losses, steps, held = apgd(f64, x.double(), y, start.double(), *how)
            same = (steps - recorded[f"apgd/{run}/step_size"]).abs().max(0).values < 1e-7
            print(f"{name} {run}: the recorded f32 takes the steps of {same.float().mean():.3f} of the images")
            double |= {f"apgd/{run}/loss": losses, f"apgd/{run}/step_size": steps, f"apgd/{run}/robust": held.byte()}
        script = [recorded[f"square_scripted_{queries}/{part}"] for part in ("init_sign_i8", "vh_vw", "sign_i8")]
        margin, _ = square(f, x, y, *(part.float() for part in script))
        off = (margin - recorded[f"square_scripted_{queries}/margin"]).abs().max()
        assert off < 1e-4, f"not the recorded squares: off by {off}"
        margin, asked = square(f64, x.double(), y, *(part.double() for part in script))
        off = (margin - recorded[f"square_scripted_{queries}/margin"]).abs()
        print(f"{name} square: the recorded f32 is within 1e-4 on {(off < 1e-4).float().mean():.3f}, at most {off.max():.1e} off")
        double |= {f"square_scripted_{queries}/margin": margin, f"square_scripted_{queries}/n_queries": asked}
        for rank in ranks:
            distance = fab(sys.argv[1], f64, x.double(), y, rank, 100 if rank else 30)
            which = f"fab/rank{rank}_norm" if rank else "fab/untargeted30_norm"
            single = recorded["fab/norm_per_target"][rank - 2] if rank else recorded[which]
            off = (distance - single).abs().nan_to_num()
            print(f"{name} {which}: the recorded f32 is within 1e-4 on {(off < 1e-4).float().mean():.3f}, at most {off.max():.1e} off")
            double[which] = distance
        save_file({k: v.contiguous() for k, v in double.items()}, HERE / f"double_{name}.safetensors")


if __name__ == "__main__":
    main()
