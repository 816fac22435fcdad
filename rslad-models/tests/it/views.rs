//! The views of a network: who changes what, and what numbers that are none do.

use crate::common::{images_of, mean_cross_entropy, scrambled, values};
use crate::small::any_arch;
use candle_core::{Device, Tensor};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rslad_models::{ARCHS, ArchSpec, Classifier, Error, Network, Objective};
use std::collections::HashMap;

/// The smallest network of every architecture, with random weights and statistics.
fn smallest() -> impl Iterator<Item = Network> {
    ARCHS.iter().map(|arch| {
        let options = match arch.name {
            "wrn" | "dm_wrn" => "depth = 10\nwidth = 1",
            "mobilenet_v2" => "divisor = 8",
            "tiny_cnn" => "width = 4",
            _ => "width = 4\nblocks = '1,1'",
        };
        scrambled(&ArchSpec::published(arch.name, &options.parse().unwrap()).unwrap(), 7000)
    })
}

fn state(network: &Network) -> HashMap<String, Vec<f64>> {
    let state = network.params().state_dict().unwrap().into_iter();
    state.map(|(name, t)| (name, values(&t))).collect()
}

fn batch(stream: u64) -> Tensor {
    images_of(stream, [6, 3, 16, 16])
}

#[test]
fn every_forward_in_train_mode_counts_and_none_in_eval_mode() {
    for network in smallest() {
        let parameters = |network: &Network| -> Vec<Vec<f64>> {
            network.parameters().map(|(_, v)| values(v.as_tensor())).collect()
        };
        let before = parameters(&network);
        let mut training = network.training();
        training.forward(&batch(1)).unwrap();
        let view = training.attack_view();
        view.logits(&batch(2)).unwrap();
        view.gradient(&batch(3), &mean_cross_entropy(vec![0; 6])).unwrap();
        network.freeze().unwrap().logits(&batch(4)).unwrap();
        let counters = state(&network).into_iter().filter(|(name, _)| name.ends_with("num_batches_tracked"));
        counters.for_each(|(name, v)| assert_eq!(v, [3.0], "{name}"));
        assert_eq!(parameters(&network), before);
        let error = training.take_gradients().unwrap_err().to_string();
        assert!(error.contains("run a backward first"), "the attack view left a gradient: {error}");
    }
}

#[test]
fn the_attack_view_tracks_what_a_training_forward_tracks() {
    for (a, b) in smallest().zip(smallest()) {
        let ours = a.training().attack_view().logits(&batch(1)).unwrap();
        let mut training = b.training();
        let pass = training.forward(&batch(1)).unwrap();
        assert_eq!(values(&ours), values(pass.logits()));
        assert_eq!(state(&a), state(&b));
    }
}

#[test]
fn reestimated_statistics_are_the_plain_average_over_the_batches() {
    for network in smallest() {
        let state_dict = network.params().state_dict().unwrap().into_iter().collect();
        let estimate = |batches: &[u64]| {
            let network = Network::with_state_dict(network.arch(), &state_dict).unwrap();
            let batches = batches.iter().map(|&stream| Ok::<_, Error>(batch(stream)));
            network.training().reestimate(batches).unwrap();
            state(&network)
        };
        let (all, parts) = (estimate(&[1, 2, 3]), [estimate(&[1]), estimate(&[2]), estimate(&[3])]);
        for (name, ours) in all.iter().filter(|(name, _)| name.contains("running_")) {
            for (i, ours) in ours.iter().enumerate() {
                let average = parts.iter().map(|part| part[name][i]).sum::<f64>() / 3.0;
                assert!((ours - average).abs() < 1e-5 * (1.0 + average.abs()), "{name}: {ours}, {average}");
            }
        }
        let before = state(&network);
        let untouched = all.iter().filter(|(name, _)| !name.contains("running_") && !name.contains("num_"));
        untouched.for_each(|(name, v)| assert_eq!(v, &before[name], "{name}"));
    }
}

#[test]
fn a_batch_that_cannot_be_had_stops_a_reestimation() {
    let network = smallest().last().unwrap();
    let batches = [Ok(batch(1)), Err(Error::Other("the disk is gone".into()))];
    let error = network.training().reestimate(batches).unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}

#[test]
fn a_broken_image_shows_in_its_own_logits_and_in_no_others() {
    for network in smallest() {
        let frozen = network.freeze().unwrap();
        let clean = values(&frozen.logits(&batch(1)).unwrap());
        for poison in [f32::NAN, f32::INFINITY] {
            let mut pixels: Vec<f32> = batch(1).flatten_all().unwrap().to_vec1().unwrap();
            pixels[2 * 3 * 256 + 300] = poison; // in the third of six images
            let x = Tensor::from_vec(pixels, (6, 3, 16, 16), &Device::Cpu).unwrap();
            let logits = values(&frozen.logits(&x).unwrap());
            let arch = &network.arch().arch;
            for (i, (row, clean)) in logits.chunks(10).zip(clean.chunks(10)).enumerate() {
                if i == 2 {
                    assert!(row.iter().any(|v| !v.is_finite()), "{arch} hides {poison}: {row:?}");
                } else {
                    assert_eq!(row, clean, "{arch}: image {i}");
                }
            }
        }
    }
}

#[test]
fn a_weight_that_is_not_a_number_shows_in_every_logit() {
    for network in smallest() {
        let (name, first) = network.parameters().next().unwrap();
        let mut v: Vec<f32> = first.as_tensor().flatten_all().unwrap().to_vec1().unwrap();
        v.fill(f32::NAN);
        first.set(&Tensor::from_vec(v, first.shape(), network.device()).unwrap()).unwrap();
        let logits = values(&network.freeze().unwrap().logits(&batch(1)).unwrap());
        assert!(logits.iter().all(|v| v.is_nan()), "{} hides a NaN in {name}", network.arch().arch);
        let mut training = network.training();
        let logits = values(training.forward(&batch(1)).unwrap().logits());
        assert!(logits.iter().all(|v| v.is_nan()), "{} hides a NaN in {name}", network.arch().arch);
    }
}

#[test]
fn a_few_gradient_steps_lower_the_loss_of_every_architecture() {
    for trained in smallest() {
        let network = Network::new(trained.arch(), 1).unwrap();
        let losses: Vec<f64> = (0..12).map(|_| step(&network, 0.2)).collect();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(last < 0.8 * first, "{}: {losses:?}", network.arch().arch);
    }
}

/// One plain gradient step on six fixed images; returns the loss before it.
fn step(network: &Network, learning_rate: f64) -> f64 {
    let mut training = network.training();
    let pass = training.forward(&batch(1)).unwrap();
    let objective = mean_cross_entropy(vec![3, 1, 4, 1, 5, 9]);
    let (loss, dlogits) = objective.value_and_grad(&[0, 1, 2, 3, 4, 5], pass.logits()).unwrap();
    training.backward(pass, &dlogits).unwrap();
    for ((_, parameter), gradient) in network.parameters().zip(training.take_gradients().unwrap()) {
        let stepped = (parameter.as_detached_tensor() - (gradient * learning_rate).unwrap()).unwrap();
        parameter.set(&stepped).unwrap();
    }
    values(&loss).iter().sum()
}

#[test]
fn images_that_do_not_fit_the_network_are_refused_by_every_view() {
    let mut runner = TestRunner::deterministic();
    let arch = any_arch().new_tree(&mut runner).unwrap().current();
    let network = scrambled(&arch, 1);
    let channels = network.graph().in_channels();
    for shape in [[2, channels + 1, 16, 16], [0, channels, 16, 16]] {
        let x = Tensor::zeros(&shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut training = network.training();
        let errors = [
            network.freeze().unwrap().logits(&x).unwrap_err(),
            training.attack_view().logits(&x).unwrap_err(),
            training.forward(&x).err().unwrap(),
        ];
        for error in errors {
            assert!(error.to_string().contains("the batch of images has shape"), "{error}");
        }
    }
}
