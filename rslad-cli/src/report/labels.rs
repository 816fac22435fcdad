//! Names as people write them.

/// The name of a method as papers write it; what is no method, such as a file, stays as it is.
pub(crate) fn method(name: &str) -> String {
    match name {
        "natural" => "Natural".into(),
        "label_slots" => "Slots".into(),
        "gowal2020" => "Gowal et al. 2020".into(),
        "adaad" => "AdaAD".into(),
        "iad2" => "IAD-II".into(),
        known if rslad_distill::METHODS.iter().any(|entry| entry.name == known) => known.to_uppercase(),
        other => other.into(),
    }
}

/// The name of an architecture as papers write it.
pub(crate) fn arch(name: &str) -> String {
    match name {
        "mobilenet_v2" => "MobileNetV2".into(),
        "tiny_cnn" => "tiny CNN".into(),
        _ => match (name.strip_prefix("resnet"), name.strip_prefix("wrn")) {
            (Some(depth), _) => format!("ResNet-{depth}"),
            (_, Some(rest)) => format!("WRN-{rest}").trim_end_matches('-').to_string(),
            _ => name.to_string(),
        },
    }
}

/// The name of a column as papers write it.
pub(crate) fn column(name: &str) -> String {
    match name {
        "clean" => "Clean".into(),
        "fgsm" => "FGSM".into(),
        "pgd_sat" => "PGD-SAT".into(),
        "pgd_trades" => "PGD-TRADES".into(),
        "cw_inf" => "CW-inf".into(),
        "aa" | "auto_attack" | "autoattack" => "AA".into(),
        "square" => "Square".into(),
        other => match (other.strip_prefix("pgd"), other.strip_prefix("cw_inf")) {
            (Some(steps), _) if steps.parse::<u32>().is_ok() => format!("PGD-{steps}"),
            (_, Some(steps)) if steps.parse::<u32>().is_ok() => format!("CW-inf-{steps}"),
            _ => other.into(),
        },
    }
}

/// A share as percent with one digit.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// A time in milliseconds to two digits, also a short one.
pub(crate) fn milliseconds(ms: f64) -> String {
    let digits = (1 - ms.max(1e-9).log10().floor() as i32).clamp(0, 6) as usize;
    format!("{ms:.digits$}")
}

/// A difference of shares in points, with its sign.
pub(crate) fn points(difference: f64) -> String {
    format!("{:+.1}", 100.0 * difference).replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_papers() {
        assert_eq!(
            ["rslad", "natural", "iad2", "a/b.pt"].map(method),
            ["RSLAD", "Natural", "IAD-II", "a/b.pt"]
        );
        assert_eq!(
            ["resnet18", "mobilenet_v2", "wrn34-10", "wrn"].map(arch),
            ["ResNet-18", "MobileNetV2", "WRN-34-10", "WRN"]
        );
        assert_eq!(
            [0.01234, 0.5, 3.21, 45.6, 789.0].map(milliseconds),
            ["0.012", "0.50", "3.2", "46", "789"]
        );
        assert_eq!((percent(0.5149), points(-0.012)), ("51.5".to_string(), "\u{2212}1.2".to_string()));
    }
}
