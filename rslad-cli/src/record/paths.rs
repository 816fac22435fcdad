//! Paths of one machine, which tell others nothing.

/// The text with absolute paths cut to their last two parts: `/srv/me/runs/a` becomes `.../runs/a`.
/// Addresses, fractions and relative paths stay.
pub(super) fn shortened(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || c.is_control() || "\"'`,;:|()[]{}<>=".contains(c);
    let continues = |c: char| c.is_alphanumeric() || "._-~})>*/".contains(c);
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('/') {
        let (before, from) = rest.split_at(at);
        short.push_str(before);
        let path = &from[..from.find(ends).unwrap_or(from.len())];
        let is_absolute = !path.starts_with("//") && !short.ends_with(continues);
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        match is_absolute && parts.len() > 1 {
            true => {
                let kept = &parts[parts.len().saturating_sub(2).max(1)..];
                short.push_str(".../");
                short.push_str(&kept.join("/"));
            }
            false => short.push_str(path),
        }
        rest = &from[path.len()..];
    }
    short + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_names_one_machine_is_cut() {
        let check = |text: &str, expected: &str| assert_eq!(shortened(text), expected);
        check("\"/srv/me/runs/a/best.safetensors\"", "\".../a/best.safetensors\"");
        check("cifar10:/data/sets/c10 --out=/srv/x", "cifar10:.../sets/c10 --out=.../x");
        check("eps 8/255, eps/4, and / alone", "eps 8/255, eps/4, and / alone");
        check("https://example.org/a/b/c", "https://example.org/a/b/c");
        check("runs/a/b ../c/d ./e/f/g", "runs/a/b ../c/d ./e/f/g");
        check("[\"/opt/bin/rslad\",\"train\"]", "[\".../bin/rslad\",\"train\"]");
        check("no path", "no path");
    }
}
