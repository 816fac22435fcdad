//! Batch statistics and the sums of gradients.

use super::Argument::{Count, F64, In, Out};
use super::{Memory, at, maybe, slab};
use crate::exec::device::launch::{Argument, Kernel};

/// The kernels of batch statistics.
pub(super) fn sums(kernel: Kernel, total: usize, arguments: &mut [Argument<'_, Memory>]) {
    match (kernel, arguments) {
        (Kernel::Moments, [Count(rows), Count(c), In(x), Out(mean), Out(m2)]) => {
            let (rows, c, x) = (at(rows), at(c), x.floats());
            for i in 0..total {
                let slab = || slab(i / c, rows).map(|row| f64::from(x[row * c + i % c]));
                let center = slab().sum::<f64>() / slab().count() as f64;
                mean.doubles_mut()[i] = center;
                m2.doubles_mut()[i] = slab().map(|v| (v - center) * (v - center)).sum();
            }
        }
        (
            Kernel::MergeMoments,
            [Count(parts), Count(unit), Count(rows), Count(c), In(mean), In(m2), Out(mean_out), Out(m2_out)],
        ) => {
            let (parts, unit, rows, c) = (at(parts), at(unit), at(rows), at(c));
            let (mean, m2) = (mean.doubles(), m2.doubles());
            for i in 0..total {
                let (mut count, mut center, mut squares) = (0.0, 0.0, 0.0);
                for part in slab(i / c, parts) {
                    let own = unit.min(rows - part * unit) as f64;
                    let all = count + own;
                    let away = mean[part * c + i % c] - center;
                    center += away * (own / all);
                    squares += m2[part * c + i % c] + away * away * (count * own / all);
                    count = all;
                }
                mean_out.doubles_mut()[i] = center;
                m2_out.doubles_mut()[i] = squares;
            }
        }
        (Kernel::GradientSums, [Count(rows), Count(c), x, In(g), mean, inverse, Out(plain), weighted]) => {
            let (rows, c, g) = (at(rows), at(c), g.floats());
            for i in 0..total {
                let (mut a, mut b) = (0.0, 0.0);
                for row in slab(i / c, rows) {
                    let own = g[row * c + i % c];
                    a += f64::from(own);
                    if let (Some(x), Some(mean), Some(inverse)) =
                        (maybe(x, row * c + i % c), maybe(mean, i % c), maybe(inverse, i % c))
                    {
                        b += f64::from(own * ((x - mean) * inverse));
                    }
                }
                plain.doubles_mut()[i] = a;
                if let Out(weighted) = weighted {
                    weighted.doubles_mut()[i] = b;
                }
            }
        }
        (Kernel::AddGroups, [Count(parts), Count(c), In(x), Out(y)]) => {
            let (parts, c, x) = (at(parts), at(c), x.doubles());
            let sum = |i: usize| slab(i / c, parts).map(|part| x[part * c + i % c]).sum();
            y.doubles_mut().iter_mut().enumerate().for_each(|(i, y)| *y = sum(i));
        }
        (
            Kernel::NormFactors,
            [
                Count(rows),
                In(mean),
                In(m2),
                In(weight),
                In(bias),
                F64(eps),
                Out(a),
                Out(b),
                Out(c),
                Out(d),
                Out(e),
            ],
        ) => {
            let (mean, m2, weight, bias) = (mean.doubles(), m2.doubles(), weight.floats(), bias.floats());
            let rows = f64::from(*rows);
            for i in 0..total {
                let one_over = 1.0 / (m2[i] / rows + *eps).sqrt();
                let factor = f64::from(weight[i]) * one_over;
                a.floats_mut()[i] = mean[i] as f32;
                b.floats_mut()[i] = (m2[i] / (rows - 1.0)) as f32;
                c.floats_mut()[i] = one_over as f32;
                d.floats_mut()[i] = factor as f32;
                e.floats_mut()[i] = (f64::from(bias[i]) - mean[i] * factor) as f32;
            }
        }
        (
            Kernel::NormGradient,
            [
                Count(rows),
                In(plain),
                In(weighted),
                In(center),
                In(inverse),
                In(scale),
                Out(a),
                Out(b),
                Out(c),
                Out(d),
            ],
        ) => {
            let (plain, weighted) = (plain.doubles(), weighted.doubles());
            let wide = |m: &Memory, i: usize| f64::from(m.floats()[i]);
            let rows = f64::from(*rows);
            for i in 0..total {
                let by_x = -wide(scale, i) * wide(inverse, i) * weighted[i] / rows;
                a.floats_mut()[i] = weighted[i] as f32;
                b.floats_mut()[i] = plain[i] as f32;
                c.floats_mut()[i] = by_x as f32;
                d.floats_mut()[i] = (-wide(scale, i) * plain[i] / rows - by_x * wide(center, i)) as f32;
            }
        }
        (
            Kernel::RunningFactors,
            [In(weight), In(bias), In(mean), In(variance), F64(eps), Out(a), Out(b)],
        ) => {
            let wide = |m: &Memory, i: usize| f64::from(m.floats()[i]);
            for i in 0..total {
                let factor = wide(weight, i) / (wide(variance, i) + *eps).sqrt();
                a.floats_mut()[i] = factor as f32;
                b.floats_mut()[i] = (wide(bias, i) - wide(mean, i) * factor) as f32;
            }
        }
        (kernel, _) => panic!("{kernel:?} was launched with other arguments than its own"),
    }
}
