//! The nearest point of a hyperplane within the box [0, 1], in the maximum norm.

/// The points `v` with `w . v = b`.
pub(crate) struct Plane<'a> {
    pub(crate) w: &'a [f32],
    pub(crate) b: f64,
}

/// The smallest `d` in the maximum norm for which `t + d` is on the plane and in [0, 1], or, where the box
/// does not reach the plane, the one that comes closest to it.
///
/// Each pixel with a weight moves toward one side of the box, by `min(lambda, p)` where `p` is what the
/// side leaves it. The movement `sum |w| min(lambda, p)` grows with lambda, ever more slowly, so that
/// Newton's iteration from below reaches the right lambda without passing it, and stops when the set of
/// pixels at their side does. It takes two or three passes where the released code sorts.
///
/// # Source
/// Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack",
/// section 2.2.
pub(crate) fn project(t: &[f32], plane: &Plane<'_>) -> Vec<f32> {
    let dot = plane.w.iter().zip(t).map(|(w, t)| f64::from(*w) * f64::from(*t));
    let excess = sum(dot) - plane.b;
    // The released code takes an excess of 0 for positive; nothing moves then.
    let away = if excess >= 0.0 { 1.0f32 } else { -1.0 };
    let need = excess.abs();
    // Down where the weight is with the excess, up where it is against it.
    let side = |w: f32| if w * away < 0.0 { 1.0f32 } else { 0.0 };
    let rooms: Vec<f32> = plane.w.iter().zip(t).map(|(&w, &t)| (side(w) - t).abs()).collect();
    let lambda = threshold(plane.w, &rooms, need) as f32;
    let go = |(&w, &room): (&f32, &f32)| {
        if w == 0.0 { 0.0 } else { (2.0 * side(w) - 1.0) * room.min(lambda) }
    };
    plane.w.iter().zip(&rooms).map(go).collect()
}

/// The smallest lambda with `sum |w| min(lambda, room) >= need`; infinity where there is none.
fn threshold(w: &[f32], rooms: &[f32], need: f64) -> f64 {
    let mut lambda = 0.0f64;
    let mut full = usize::MAX; // how many pixels were at their side
    loop {
        let (mut moved, mut free, mut count) = ([0.0f64; 8], [0.0f64; 8], 0);
        for (w, rooms) in w.chunks(8).zip(rooms.chunks(8)) {
            for (i, (w, room)) in w.iter().zip(rooms).enumerate() {
                let (w, room) = (f64::from(w.abs()), f64::from(*room));
                let at_side = room <= lambda;
                moved[i] += if at_side { w * room } else { 0.0 };
                free[i] += if at_side { 0.0 } else { w };
                count += usize::from(at_side);
            }
        }
        let (moved, free) = (total(moved), total(free));
        if count == full {
            return lambda;
        }
        full = count;
        if free <= 0.0 {
            return f64::INFINITY;
        }
        lambda = ((need - moved) / free).max(lambda);
        if lambda.is_nan() {
            return 0.0;
        }
    }
}

/// A sum whose order does not depend on what the compiler makes of it.
fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut sums = [0.0; 8];
    values.enumerate().for_each(|(i, v)| sums[i % 8] += v);
    total(sums)
}

fn total([a, b, c, d, e, f, g, h]: [f64; 8]) -> f64 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The threshold by sorting the rooms and adding up, as the paper has it.
    fn by_sorting(w: &[f32], rooms: &[f32], need: f64) -> f64 {
        let mut order: Vec<usize> = (0..w.len()).filter(|&i| w[i] != 0.0).collect();
        order.sort_by(|&a, &b| rooms[a].total_cmp(&rooms[b]));
        let weight = |i: usize| f64::from(w[i].abs());
        let mut free: f64 = order.iter().map(|&i| weight(i)).sum();
        let (mut moved, mut before) = (0.0, 0.0);
        for i in order {
            let room = f64::from(rooms[i]);
            if moved + free * (room - before) >= need {
                return before + (need - moved) / free;
            }
            moved += free * (room - before);
            free -= weight(i);
            before = room;
        }
        f64::INFINITY
    }

    fn dot(w: &[f32], v: impl Iterator<Item = f64>) -> f64 {
        w.iter().zip(v).map(|(w, v)| f64::from(*w) * v).sum()
    }

    fn weights() -> impl Strategy<Value = Vec<(f32, f32)>> {
        let w = prop_oneof![-3.0..3.0f32, Just(0.0), Just(1.0), Just(-1.0), -1e-6..1e-6f32];
        let t = prop_oneof![0.0..=1.0f32, Just(0.0), Just(1.0)];
        proptest::collection::vec((w, t), 1..50)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn newtons_threshold_is_that_of_sorting(points in weights(), share in 0.0..1.3f64) {
            let (w, rooms): (Vec<f32>, Vec<f32>) = points.into_iter().unzip();
            let need = share * w.iter().zip(&rooms).map(|(w, p)| f64::from(w.abs()) * f64::from(*p)).sum::<f64>();
            let (a, b) = (threshold(&w, &rooms, need), by_sorting(&w, &rooms, need));
            let moved = |l: f64| dot(&w, w.iter().zip(&rooms).map(|(w, p)| f64::from(w.signum()) * f64::from(*p).min(l)));
            // Where the last pixel has just no room left, both are right.
            prop_assert!((a - b).abs() <= 1e-9 || (moved(a) - moved(b)).abs() < 1e-9, "{} instead of {}", a, b);
        }

        #[test]
        fn projections_are_on_the_plane_in_the_box_and_nearest(points in weights(), b in -3.0..3.0f64) {
            let (w, t): (Vec<f32>, Vec<f32>) = points.into_iter().unzip();
            let d = project(&t, &Plane { w: &w, b });
            let moved: Vec<f64> = t.iter().zip(&d).map(|(t, d)| f64::from(*t) + f64::from(*d)).collect();
            prop_assert!(moved.iter().all(|v| (-1e-6..=1.0 + 1e-6).contains(v)));
            prop_assert!(w.iter().zip(&d).all(|(w, d)| *w != 0.0 || *d == 0.0));
            let (low, high) = (dot(&w, w.iter().map(|w| f64::from(u8::from(*w < 0.0)))),
                               dot(&w, w.iter().map(|w| f64::from(u8::from(*w > 0.0)))));
            let scale = 1e-5 * (1.0 + w.iter().map(|w| f64::from(w.abs())).sum::<f64>());
            let reached = dot(&w, moved.into_iter());
            prop_assert!((reached - b.clamp(low, high)).abs() < scale, "{} instead of {}", reached, b);
            // Nearest: no point of the box within a slightly smaller distance reaches the plane.
            let norm = d.iter().fold(0f32, |m, d| m.max(d.abs()));
            if (low..high).contains(&b) && norm > 1e-4 {
                let less = f64::from(norm) * 0.999;
                let reach = |sign: f64| dot(&w, w.iter().zip(&t).map(|(w, t)| {
                    (f64::from(*t) + sign * less * f64::from(w.signum())).clamp(0.0, 1.0)
                }));
                prop_assert!(!(reach(-1.0) + scale..reach(1.0) - scale).contains(&b));
            }
        }
    }

    #[test]
    fn the_edges_are_those_of_the_definition() {
        let at = |t: &[f32], w: &[f32], b: f64| project(t, &Plane { w, b });
        assert_eq!(at(&[0.5, 0.5], &[1.0, -1.0], 0.0), [0.0, 0.0]); // on the plane
        assert_eq!(at(&[0.5, 0.5], &[1.0, -1.0], 1.0), [0.5, -0.5]); // the corner
        assert_eq!(at(&[0.5, 0.5], &[1.0, -1.0], 9.0), [0.5, -0.5]); // beyond the box
        assert_eq!(at(&[0.75, 0.5], &[1.0, 0.0], 0.25), [-0.5, 0.0]);
        assert_eq!(at(&[0.25, 0.75], &[0.0, 0.0], 1.0), [0.0, 0.0]); // no plane at all
    }
}
