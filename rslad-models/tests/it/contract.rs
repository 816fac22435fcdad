//! What holds for every registered architecture, with random options and image sizes.

use crate::common::{images_of, relative_error, scrambled, values};
use crate::interpreter::{self, Statistics};
use crate::small::any_arch;
use candle_core::Tensor;
use proptest::prelude::*;
use rslad_models::checkpoint::Provenance;
use rslad_models::device::test_device;
use rslad_models::{ARCHS, ArchSpec, Classifier, ClosureObjective, Error, Gradient, Network, Objective};

const CASES: u32 = 4;

fn config() -> ProptestConfig {
    ProptestConfig { cases: CASES * ARCHS.len() as u32, failure_persistence: None, ..Default::default() }
}

/// Sides that every architecture can halve as often as it does.
fn side() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![8usize, 16])
}

fn bits(t: &Tensor) -> Vec<u32> {
    let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// The same bits; on a GPU, whose library chooses an algorithm by the size of the batch, the same up to rounding.
fn same(a: &Tensor, b: &Tensor) -> bool {
    match test_device().is_cpu() {
        true => bits(a) == bits(b),
        false => relative_error(&values(a), &values(b)) < 1e-5,
    }
}

fn batch(arch: &ArchSpec, n: usize, height: usize, width: usize, stream: u64) -> Tensor {
    images_of(stream, [n, arch.graph().unwrap().in_channels(), height, width])
}

/// The sum of the logits of each example, weighted by class.
fn weighted_sum() -> impl Objective {
    ClosureObjective(|_: &[u32], logits: &Tensor| -> Result<Tensor, Error> {
        let classes = logits.dim(1)?;
        let weights: Vec<f32> = (0..classes).map(|k| 1.0 - 2.0 * k as f32 / classes as f32).collect();
        Ok(logits.broadcast_mul(&Tensor::new(weights, logits.device())?)?.sum(1)?)
    })
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn logits_and_gradients_have_the_shapes_that_the_graph_promises(
        arch in any_arch(), n in 1usize..4, h in side(), w in side(),
    ) {
        let network = Network::new(&arch, 1).unwrap();
        let x = batch(&arch, n, h, w, 1);
        let gradient = network.freeze().unwrap().gradient(&x, &weighted_sum()).unwrap();
        let classes = network.graph().n_classes();
        prop_assert_eq!(gradient.logits.dims(), [n, classes]);
        prop_assert_eq!(gradient.loss.dims(), [n]);
        prop_assert_eq!(gradient.dx.dims(), x.dims());
        prop_assert_eq!(network.graph().shapes(h, w).unwrap().pop(), Some([classes, 1, 1]));
    }

    #[test]
    fn a_frozen_network_computes_eval_mode(arch in any_arch(), n in 1usize..3, h in side(), w in side(), s in 1u64..1000) {
        let network = scrambled(&arch, 1000 * s);
        let x = batch(&arch, n, h, w, s);
        let ours = values(&network.freeze().unwrap().logits(&x).unwrap());
        let truth = interpreter::run(&network, &x, Statistics::Running).logits;
        prop_assert!(relative_error(&ours, &truth) < 1e-5, "{}", relative_error(&ours, &truth));
    }

    #[test]
    fn train_mode_normalizes_by_the_batch(arch in any_arch(), h in side(), w in side(), s in 1u64..1000) {
        let network = scrambled(&arch, 1000 * s);
        let x = batch(&arch, 6, h, w, s);
        let ours = values(network.training().forward(&x).unwrap().logits());
        let truth = interpreter::run(&network, &x, Statistics::Batch).logits;
        // A channel that is nearly constant over the batch divides rounding by its small deviation.
        prop_assert!(relative_error(&ours, &truth) < 1e-3, "{}", relative_error(&ours, &truth));
    }

    #[test]
    fn eval_mode_gives_the_same_bits_for_any_split_of_the_batch(
        arch in any_arch(), h in side(), cut in 1usize..5, s in 1u64..1000,
    ) {
        let frozen = scrambled(&arch, 1000 * s).freeze().unwrap();
        let x = batch(&arch, 5, h, h, s);
        let whole = frozen.gradient(&x, &weighted_sum()).unwrap();
        let parts = [x.narrow(0, 0, cut).unwrap(), x.narrow(0, cut, 5 - cut).unwrap()];
        let parts = parts.map(|part| frozen.gradient(&part, &weighted_sum()).unwrap());
        let part = |f: fn(&Gradient) -> &Tensor| Tensor::cat(&[f(&parts[0]), f(&parts[1])], 0).unwrap();
        prop_assert!(same(&part(|g| &g.logits), &whole.logits));
        prop_assert!(same(&part(|g| &g.loss), &whole.loss));
        prop_assert!(same(&part(|g| &g.dx), &whole.dx));
    }

    #[test]
    fn a_snapshot_stays_until_it_is_refreshed(arch in any_arch(), h in side(), s in 1u64..1000) {
        let network = scrambled(&arch, 1000 * s);
        let x = batch(&arch, 4, h, h, s);
        let mut frozen = network.freeze().unwrap();
        let before = bits(&frozen.logits(&x).unwrap());
        network.training().forward(&x).unwrap(); // moves the running statistics
        for (_, parameter) in network.parameters() {
            let stepped = (parameter.as_tensor() * 0.5).unwrap().affine(1.0, 0.01).unwrap();
            parameter.set(&stepped).unwrap();
        }
        prop_assert_eq!(&bits(&frozen.logits(&x).unwrap()), &before);
        frozen.refresh(&network).unwrap();
        let after = bits(&frozen.logits(&x).unwrap());
        prop_assert_ne!(&after, &before);
        prop_assert_eq!(after, bits(&network.freeze().unwrap().logits(&x).unwrap()));
    }

    #[test]
    fn a_round_trip_keeps_every_bit(arch in any_arch(), seed in any::<u64>(), s in 1u64..1000) {
        let network = scrambled(&arch, 1000 * s);
        let path = tempfile::tempdir().unwrap();
        let path = path.path().join("network.safetensors");
        let provenance = Provenance::from([("seed".to_string(), seed.into())]);
        network.save(&path, &provenance).unwrap();
        let (loaded, said) = Network::load(&path).unwrap();
        prop_assert_eq!(said, provenance);
        prop_assert_eq!(loaded.arch(), network.arch());
        let state = |network: &Network| {
            let state = network.params().state_dict().unwrap().into_iter();
            state.map(|(name, t)| (name, t.dtype(), values(&t).into_iter().map(f64::to_bits).collect::<Vec<_>>())).collect::<Vec<_>>()
        };
        prop_assert_eq!(state(&loaded), state(&network));
    }
}
