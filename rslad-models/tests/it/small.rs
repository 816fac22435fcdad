//! Random small networks of every registered architecture.

use proptest::prelude::*;
use proptest::strategy::Union;
use rslad_models::{ARCHS, ArchSpec};

/// Any architecture with random small options.
pub fn any_arch() -> impl Strategy<Value = ArchSpec> {
    Union::new(ARCHS.iter().map(|arch| small(arch.name)))
}

/// This architecture with random small options. An option that is new must be given a range here.
fn small(arch: &'static str) -> BoxedStrategy<ArchSpec> {
    let published = ArchSpec::published(arch, &toml::Table::new()).unwrap();
    let options = published.options.keys().map(|key| {
        let key = key.clone();
        range(arch, &key).prop_map(move |value| format!("{key} = {value}")).boxed()
    });
    let options: Vec<_> = options.collect();
    options.prop_map(move |lines| ArchSpec::parse(arch, &lines.join("\n")).unwrap()).boxed()
}

/// Values of an option, in TOML.
fn range(arch: &str, key: &str) -> BoxedStrategy<String> {
    let number = |range: std::ops::RangeInclusive<usize>| range.prop_map(|n| n.to_string()).boxed();
    let one_of = |texts: &'static [&'static str]| {
        prop::sample::select(texts).prop_map(|text| format!("'{text}'")).boxed()
    };
    match key {
        "classes" => number(2..=12),
        "in_channels" => number(1..=4),
        "norm" => one_of(&["none", "0.5/0.25", "0.1/2"]),
        "width" if arch.ends_with("wrn") => number(1..=2),
        "width" => number(1..=6),
        "blocks" => one_of(&["1", "2", "1,1", "1,2,1", "1,1,1,1"]),
        "depth" => prop::sample::select(vec!["10", "16"]).prop_map(String::from).boxed(),
        "divisor" => prop::sample::select(vec!["4", "8"]).prop_map(String::from).boxed(),
        other => panic!("give the tests a range for `{other}`"),
    }
}
