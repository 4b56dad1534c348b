//! Rust source as the house rules see it: code apart from comments, literals and tests.
//!
//! A reader of a few dozen lines rather than a parser: it knows just enough of the language to say
//! where a comment, a literal, an item, a path or a function ends.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file under `src/`.
pub(crate) struct Source {
    /// Relative to `src/`.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
    /// `text` without comments and contents of literals, every line where it was.
    pub(crate) code: String,
    /// `code` without test modules; empty in a file of tests.
    pub(crate) shipped: String,
}

impl Source {
    /// Reads `file`, which lies under `root`.
    pub(crate) fn read(root: &Path, file: &Path) -> Self {
        let path = file.strip_prefix(root).unwrap().to_path_buf();
        let text = fs::read_to_string(file).unwrap();
        let code = blank(&text);
        let is_tests = path.ends_with("tests.rs") || path.iter().any(|part| part == "tests");
        let shipped = if is_tests {
            String::new()
        } else {
            without_tests(&code)
        };
        Self {
            path,
            text,
            code,
            shipped,
        }
    }

    /// Whether the file is that module or lies in its folder.
    pub(crate) fn is_under(&self, folder: &str) -> bool {
        self.path.starts_with(folder) || self.path == Path::new(&format!("{folder}.rs"))
    }

    /// The top-level module this file belongs to.
    pub(crate) fn module(&self) -> String {
        let first = self
            .path
            .iter()
            .next()
            .and_then(|part| part.to_str())
            .unwrap_or_default();
        first.trim_end_matches(".rs").to_owned()
    }
}

/// A function with a body, and the lines from its `fn` to its closing brace.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
}

/// Every function that has a body.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ") {
        if start > 0 && !code[..start].ends_with([' ', '\n', '(']) {
            continue;
        }
        let name: String = code[start + 3..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let end = item_end(code.as_bytes(), start);
        let body = &code[start..end];
        if !name.is_empty() && body.ends_with('}') {
            found.push(Function {
                name,
                lines: body.lines().count(),
            });
        }
    }
    found
}

/// Replaces comments and the contents of string and character literals by spaces.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let Some(end) = literal_end(bytes, at) else {
            at += 1;
            continue;
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).unwrap()
}

/// Where the comment or literal that begins at `at` ends; `None` if none begins there.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let find = |needle: &[u8]| {
        rest.windows(needle.len())
            .position(|window| window == needle)
    };
    if rest.starts_with(b"//") {
        return Some(at + find(b"\n").unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(at + block_comment_length(rest));
    }
    if rest[0] == b'r' {
        let hashes = rest[1..].iter().take_while(|&&byte| byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let mut close = vec![b'"'];
            close.extend(std::iter::repeat_n(b'#', hashes));
            let body = &rest[hashes + 2..];
            let length = body
                .windows(close.len())
                .position(|window| window == close)?;
            return Some(at + hashes + 2 + length + close.len());
        }
    }
    if rest[0] == b'"' {
        return Some(at + quoted_length(rest, b'"'));
    }
    // A lifetime has no closing quote one character on; a character literal has.
    let is_char = rest[0] == b'\''
        && (rest.get(1) == Some(&b'\\') || rest.iter().skip(2).take(4).any(|&byte| byte == b'\''))
        && !(rest.len() > 2 && rest[1].is_ascii() && rest[1] != b'\\' && rest[2] != b'\'');
    is_char.then(|| at + quoted_length(rest, b'\''))
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Blanks every item under `#[cfg(test)]`, from the attribute to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut bytes = code.as_bytes().to_vec();
    let mut from = 0;
    while let Some(found) = code[from..].find(MARK) {
        let start = from + found;
        let end = item_end(code.as_bytes(), start + MARK.len());
        for byte in &mut bytes[start..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        from = end;
    }
    String::from_utf8(bytes).unwrap()
}

/// One past the `;` or the brace that closes the item which begins at `start`.
fn item_end(code: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth <= 1 => return index + 1,
            b'}' => depth -= 1,
            b';' if depth == 0 => return index + 1,
            _ => {}
        }
    }
    code.len()
}

/// Every `a::b::c` in the code, with the braces of `use` trees multiplied out.
pub(crate) fn named_paths(code: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    let mut rest = code;
    while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        rest = paths_from(&rest[start..], "", &mut paths);
    }
    paths
}

/// Reads one path, or one `use` tree, at the head of `code`; returns what follows it.
fn paths_from<'a>(code: &'a str, prefix: &str, paths: &mut BTreeSet<String>) -> &'a str {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut path = prefix.to_owned();
    let mut rest = code;
    loop {
        let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        path.push_str(&rest[..length]);
        rest = &rest[length..];
        let Some(tail) = rest.trim_start().strip_prefix("::") else {
            break;
        };
        path.push_str("::");
        rest = tail.trim_start();
        if let Some(mut tree) = rest.strip_prefix('{') {
            loop {
                tree = tree.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '*');
                if tree.is_empty() || tree.starts_with('}') {
                    return tree.strip_prefix('}').unwrap_or(tree);
                }
                let before = tree.len();
                tree = paths_from(tree, &path, paths);
                if tree.len() == before {
                    return &tree[tree.chars().next().map_or(0, char::len_utf8)..];
                }
            }
        }
        if !rest.starts_with(is_word) {
            break;
        }
    }
    paths.insert(path);
    rest
}

#[test]
fn the_reader_of_these_rules_sees_code_only() {
    let text = "let a = \"fn x() {\"; // unsafe\nlet b = r#\"un\"safe\"#; let c = '\\''; /* /* */ unsafe */";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert!(!code.contains("unsafe") && !code.contains("fn x"), "{code}");
    assert!(
        code.contains("let b =") && code.contains("let c ="),
        "{code}"
    );
    assert_eq!(blank("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");

    let tested = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
    assert_eq!(
        without_tests(tested).replace(' ', ""),
        "fna(){}\n\n\n\n\nfnc(){}\n"
    );

    let paths = named_paths("use std::{net::{TcpStream, UdpSocket}, io}; crate::a::b();");
    let expected = [
        "crate::a::b",
        "std::io",
        "std::net::TcpStream",
        "std::net::UdpSocket",
    ];
    assert!(
        expected.iter().all(|path| paths.contains(*path)),
        "{paths:?}"
    );

    let found = functions("fn one() {\n}\ntrait T { fn none(&self); }\nfn two() { if x { y } }");
    let found: Vec<(&str, usize)> = found.iter().map(|f| (f.name.as_str(), f.lines)).collect();
    assert_eq!(found, [("one", 2), ("two", 1)]);
}
