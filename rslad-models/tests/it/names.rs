//! The entries of every architecture are those of the official state dicts, so their files load.

use crate::case::official_names;
use crate::common::{DEAD_BLOCK, json};
use rslad_models::ArchSpec;

fn entries(list: &serde_json::Value) -> Vec<(String, Vec<usize>)> {
    let entry = |e: &serde_json::Value| {
        let shape = e[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
        (e[0].as_str().unwrap().to_string(), shape.collect())
    };
    list.as_array().unwrap().iter().map(entry).collect()
}

#[test]
fn names_order_and_shapes_are_those_of_the_official_state_dicts() {
    let check = |official: &serde_json::Value, arch: &str, options: &str| {
        let graph = ArchSpec::published(arch, &options.parse().unwrap()).unwrap().graph().unwrap();
        let ours: Vec<_> = graph.entries().iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
        let theirs = entries(official).into_iter().filter(|(name, _)| !name.starts_with(DEAD_BLOCK));
        assert_eq!(ours, theirs.collect::<Vec<_>>(), "{arch} {options}");
    };
    let keys = json("model_keys.json");
    let official = |name: &str| &keys[name]["entries"];
    check(official("cifar10/resnet18"), "resnet18", "");
    check(official("cifar100/resnet18"), "resnet18", "classes = 100");
    check(official("cifar10/resnet34"), "resnet34", "");
    check(official("cifar10/resnet50"), "resnet50", "");
    check(official("cifar10/mobilenet_v2"), "mobilenet_v2", "");
    check(official("cifar100/mobilenet_v2"), "mobilenet_v2", "classes = 100");
    check(official("cifar10/wideresnet34_10_trades"), "wrn34-10", "");
    check(official("cifar100/wideresnet70_16_swish"), "wrn70-16", "classes = 100");
    check(official("cifar100/wideresnet34_20_swish"), "dm_wrn", "depth = 34\nwidth = 20\nclasses = 100");
    check(official("narrow/resnet_w8_c10"), "resnet18", "width = 8");
    check(official("narrow/mobilenet_v2_div4_c10"), "mobilenet_v2", "divisor = 4");
    check(official("narrow/wrn10_2_c10"), "wrn", "depth = 10\nwidth = 2");
    check(official("narrow/dmwrn10_2_swish_c100"), "dm_wrn", "depth = 10\nwidth = 2\nclasses = 100");
    check(official("narrow/tinynet_w16"), "tiny_cnn", "");
    let extra = json("extra_info.json");
    check(&extra["resnet34_w4_c10"]["entries"], "resnet34", "width = 4");
    check(
        &extra["resnet50_w4_b1211_c100"]["entries"],
        "resnet50",
        "width = 4\nblocks = '1,2,1,1'\nclasses = 100",
    );
    check(&extra["dm_preact_w8_c10"]["entries"], "dm_preact_resnet18", "width = 8");
}

#[test]
fn the_dead_block_of_the_trades_class_sits_where_the_fills_expect_it() {
    let theirs = entries(&json("model_keys.json")["cifar10/wideresnet34_10_trades"]["entries"]);
    let arch = ArchSpec::published("wrn34-10", &toml::Table::new()).unwrap();
    let ours = official_names(&arch, true);
    assert_eq!(ours, theirs.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
}
