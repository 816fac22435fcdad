//! Just enough TOML to read a Cargo manifest, line by line, without a parser in the build.

/// One `key = value` of a TOML file.
pub(super) struct Entry {
    /// The table it stands in: `workspace.dependencies`.
    pub(super) section: String,
    pub(super) key: String,
    /// As written, without the comment; an array over several lines is one line here.
    pub(super) value: String,
    pub(super) line: usize,
}

/// The entries of a TOML file, in order.
pub(super) fn entries(toml: &str) -> Vec<Entry> {
    let mut section = String::new();
    let mut found: Vec<Entry> = Vec::new();
    let is_open = |value: &str| value.matches('[').count() > value.matches(']').count();
    for (i, line) in toml.lines().enumerate() {
        let line = without_comment(line).trim();
        if let Some(last) = found.last_mut().filter(|last| is_open(&last.value)) {
            last.value.push_str(line); // an array over several lines
        } else if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']', ' ']).to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            let (key, value) = (key.trim().trim_matches('"').to_owned(), value.trim().to_owned());
            found.push(Entry { section: section.clone(), key, value, line: i + 1 });
        }
    }
    found
}

fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let comment = line.find(|c| {
        quoted ^= c == '"';
        c == '#' && !quoted
    });
    &line[..comment.unwrap_or(line.len())]
}

/// The quoted strings of a value.
pub(super) fn strings(value: &str) -> Vec<String> {
    value.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_knows_its_table_and_line() {
        let toml = "# head\n[a.b]\nx = 1 # one\n\n[[c]]\n\"y\" = \"#2\" # two\nz.w = true\n";
        let found: Vec<_> = entries(toml)
            .into_iter()
            .map(|Entry { section, key, value, line }| format!("{line} {section} {key} {value}"))
            .collect();
        assert_eq!(found, ["3 a.b x 1", "6 c y \"#2\"", "7 c z.w true"]);
    }

    #[test]
    fn an_array_may_span_lines() {
        let toml = "a = [\n  \"x\", # [\n  \"y\",\n]\nb = 1\n";
        let found = entries(toml);
        assert_eq!(strings(&found[0].value), ["x", "y"]);
        assert_eq!((found[1].key.as_str(), found[1].line), ("b", 5));
    }
}
