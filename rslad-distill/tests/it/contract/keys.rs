//! The keys of a method: all there, all known, all in their domain, or an error that says which is not.

use super::cases::CASES;
use rslad_distill::methods;
use toml::Table;

fn refusal(table: &Table) -> String {
    methods::build(table).err().unwrap_or_else(|| panic!("taken: {table}"))
}

#[test]
fn a_missing_key_is_named() {
    for case in CASES {
        for key in case.table().keys().filter(|key| *key != "name") {
            let mut table = case.table();
            table.remove(key);
            let (error, name) = (refusal(&table), case.name());
            assert!(
                error.starts_with(&format!("`method.{key}` is missing, expected a value such as ")),
                "{error}"
            );
            assert!(error.contains(&format!("; the keys of {name}: ")), "{error}");
        }
    }
}

#[test]
fn an_unknown_key_is_named() {
    for case in CASES {
        let mut table = case.table();
        table.insert("gamma".into(), 1.0.into());
        let (error, name) = (refusal(&table), case.name());
        assert!(error.starts_with("`method.gamma` is unknown, "), "{error}");
        assert!(error.contains(&format!("; the keys of {name}: ")), "{error}");
    }
}

#[test]
fn a_value_outside_its_domain_is_named_with_the_domain() {
    for case in CASES {
        for (change, expected) in case.refuses {
            let mut table = case.table();
            table.extend(change.parse::<Table>().unwrap());
            let error = refusal(&table);
            assert!(error.starts_with(expected), "{}: {error}, expected {expected}", case.name());
        }
    }
}

#[test]
fn a_method_is_found_by_its_name() {
    let known =
        "expected one of: natural, sat, trades, mart, ard, iad, iad2, rslad, label_slots, adaad, igdm";
    for (table, said) in [("", "is missing"), ("name = 'rslda'", "is \"rslda\""), ("name = 3", "is 3")] {
        assert_eq!(refusal(&table.parse().unwrap()), format!("`method.name` {said}, {known}"));
    }
}
