//! Parameters, multiply-accumulates and activations are those of the published networks.

use rslad_models::ArchSpec;
use rslad_models::graph::Graph;

fn graph(arch: &str, options: &str) -> Graph {
    ArchSpec::published(arch, &options.parse().unwrap()).unwrap().graph().unwrap()
}

#[test]
fn parameters_entries_and_macs_are_those_of_the_papers() {
    let check = |arch: &str, options: &str, parameters: usize, entries: usize, gmacs: f64| {
        let graph = graph(arch, options);
        assert_eq!(graph.n_parameters(), parameters, "{arch} {options}");
        assert_eq!(graph.entries().len(), entries, "{arch} {options}");
        let ours = graph.macs(32, 32).unwrap() as f64 / 1e9;
        assert!((ours - gmacs).abs() < 6e-4 * gmacs, "{arch} {options}: {ours} GMAC");
    };
    check("resnet18", "", 11_173_962, 122, 0.5554);
    check("resnet18", "classes = 100", 11_220_132, 122, 0.5555);
    check("resnet34", "", 21_282_122, 218, 1.159);
    check("resnet50", "", 23_520_842, 320, 1.298);
    check("resnet50", "classes = 100", 23_705_252, 320, 1.298);
    check("mobilenet_v2", "", 2_296_922, 344, 0.0912);
    check("mobilenet_v2", "classes = 100", 2_412_212, 344, 0.0913);
    check("wrn34-10", "", 46_160_474, 191, 6.659);
    check("wrn34-20", "", 184_531_674, 191, 26.58);
    check("wrn28-10", "", 36_479_194, 155, 5.243);
    check("wrn28-10", "classes = 100", 36_536_884, 155, 5.243);
    check("wrn70-16", "", 266_796_506, 407, 38.76);
    check("wrn70-16", "classes = 100", 266_888_756, 407, 38.76);
    check("wrn94-16", "", 365_915_610, 551, 53.26);
    check("dm_preact_resnet18", "", 12_548_426, 107, 0.6058);
    check("tiny_cnn", "", 24_346, 20, 0.0028023);
}

#[test]
fn options_change_the_costs_as_they_should() {
    assert_eq!(graph("resnet18", "width = 8").n_parameters(), 176_402);
    assert_eq!(graph("resnet18", "width = 8\nblocks = '1,1,1'\nin_channels = 1").n_parameters(), 19_810);
    assert_eq!(graph("mobilenet_v2", "divisor = 4").n_parameters(), 164_750);
    assert_eq!(graph("dm_wrn", "depth = 10\nwidth = 2\nclasses = 100").n_parameters(), 315_316);
}

#[test]
fn the_layers_add_up_to_the_totals() {
    for arch in rslad_models::ARCHS {
        let graph = graph(arch.name, "");
        let layers = graph.layers(32, 32).unwrap();
        assert_eq!(layers.iter().map(|l| l.parameters).sum::<usize>(), graph.n_parameters());
        assert_eq!(layers.iter().map(|l| l.macs).sum::<u64>(), graph.macs(32, 32).unwrap());
        let outputs: u64 = layers[1..].iter().map(|l| l.activations()).sum();
        assert_eq!(outputs, graph.activations(32, 32).unwrap());
        let last = layers.last().unwrap();
        assert_eq!((last.kind, last.shape), ("linear", [10, 1, 1]));
    }
}

#[test]
fn layers_say_what_they_are() {
    let graph = graph("mobilenet_v2", "");
    let layers = graph.layers(32, 32).unwrap();
    let named = |name: &str| layers.iter().find(|l| l.name == name).unwrap();
    let depthwise = named("layers.3.conv2");
    assert_eq!((depthwise.kind, depthwise.shape), ("depthwise", [144, 16, 16]));
    assert_eq!((depthwise.parameters, depthwise.buffers, depthwise.macs), (144 * 9, 0, 144 * 9 * 256));
    let norm = named("bn2");
    assert_eq!((norm.kind, norm.parameters, norm.buffers, norm.macs), ("batch norm", 2560, 2560, 0));
}

#[test]
fn the_convolutions_of_resnet18_put_out_614400_floats_an_image() {
    let layers = graph("resnet18", "").layers(32, 32).unwrap();
    let convolutions = layers.iter().filter(|l| l.kind == "conv").map(|l| l.activations());
    assert_eq!(convolutions.sum::<u64>(), 614_400);
}

#[test]
fn images_that_do_not_fit_are_refused_with_the_reason() {
    let error = |arch: &str, side: usize| graph(arch, "").shapes(side, side).unwrap_err().to_string();
    // Where SAME padding stands on one side only, an odd side and its 1x1 shortcut halve differently.
    assert!(error("dm_wrn", 30).contains("use images whose sides halve evenly"), "{}", error("dm_wrn", 30));
    assert!(error("dm_wrn", 0).contains("use larger images"), "{}", error("dm_wrn", 0));
    assert!(graph("resnet18", "").shapes(1, 1).is_ok());
    assert!(graph("wrn28-10", "").shapes(27, 33).is_ok());
}
