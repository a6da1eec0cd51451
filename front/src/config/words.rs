//! Splits a command line into words as a shell does, so that `command = "python3 'my worker.py'"` means what it says.
//!
//! Quotes and backslashes only: no variables, no wildcards, no redirection. Whoever wants those names a shell.

/// The words of a command; `None` where a quote is not closed or a backslash ends the text.
pub(super) fn split(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Some(words);
        }
        let mut word = String::new();
        while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
            match c {
                '\'' => single_quoted(&mut chars, &mut word)?,
                '"' => double_quoted(&mut chars, &mut word)?,
                '\\' => word.push(chars.next()?),
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

fn single_quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '\'' => return Some(()),
            c => word.push(c),
        }
    }
}

/// In double quotes a backslash escapes only what a shell lets it escape.
fn double_quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Option<()> {
    loop {
        match chars.next()? {
            '"' => return Some(()),
            '\\' => match chars.next()? {
                c @ ('"' | '\\' | '$' | '`') => word.push(c),
                c => word.extend(['\\', c]),
            },
            c => word.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_as_a_shell_does() {
        for (text, words) in [
            ("python3 worker.py", vec!["python3", "worker.py"]),
            ("  a\t b\n", vec!["a", "b"]),
            (r#"sh -c 'echo "$HOME"'"#, vec!["sh", "-c", "echo \"$HOME\""]),
            (r#"a"b c"'d e'f"#, vec!["ab cd ef"]),
            (r#""\"\\\n""#, vec![r#""\\n"#]),
            (r"a\ b \'", vec!["a b", "'"]),
            ("a '' \"\"", vec!["a", "", ""]),
            ("", vec![]),
        ] {
            assert_eq!(split(text), Some(words.iter().map(ToString::to_string).collect()), "{text}");
        }
        for text in ["'a", "\"a", "a\\", "\"a\\"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
