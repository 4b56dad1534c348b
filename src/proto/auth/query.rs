//! A query string as PHP's `parse_str` reads it: the form in which API calls are signed.
//!
//! Called by `auth`, and by `api` for what a call asks. Lists of lists are remembered as such and
//! never built.

use std::borrow::Cow;

use crate::proto::percent;

type Bytes<'a> = Cow<'a, [u8]>;

/// Keys and values of `a[k]=v`.
type Entries<'a> = Vec<(Bytes<'a>, Bytes<'a>)>;

/// The parameters, in order of first appearance, borrowed where nothing had to be decoded.
#[derive(Debug)]
pub struct Query<'a> {
    parameters: Vec<(Bytes<'a>, Parameter<'a>)>,
}

#[derive(Debug)]
enum Parameter<'a> {
    Text(Bytes<'a>),
    /// `a[k]=v`; `a[]` counts on from the highest number.
    List(Entries<'a>),
    /// `a[k][l]=v`
    Nested,
}

impl Default for Parameter<'_> {
    fn default() -> Self {
        Self::Text(Cow::Borrowed(&[]))
    }
}

/// A parameter is a list of lists: it has no signed form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nested;

impl<'a> Query<'a> {
    /// Names: leading spaces dropped, space and dot are `_`; a repeated name takes the last value
    /// (R-179..R-182).
    pub fn parse(query: &'a str) -> Self {
        /// PHP's `max_input_vars`: what lies beyond is not read.
        const PARAMETERS_MAX: usize = 1000;
        let mut read = Self {
            parameters: Vec::new(),
        };
        for piece in query
            .split('&')
            .filter(|piece| !piece.is_empty())
            .take(PARAMETERS_MAX)
        {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            let (name, value) = (percent::decoded(name, b' '), percent::decoded(value, b' '));
            let is_plain = |byte: &u8| !matches!(byte, b' ' | b'.' | b'[' | 0);
            if name.iter().all(is_plain) && !name.is_empty() {
                read.put(name, Parameter::Text(value));
            } else {
                read.insert(&name, value);
            }
        }
        read
    }

    /// Is there such a parameter, list or not?
    pub fn has(&self, name: &[u8]) -> bool {
        self.parameters
            .iter()
            .any(|(known, _)| known.as_ref() == name)
    }

    /// The value of a parameter that is no list.
    pub fn text(&self, name: &[u8]) -> Option<&[u8]> {
        match self
            .parameters
            .iter()
            .find(|(known, _)| known.as_ref() == name)
        {
            Some((_, Parameter::Text(value))) => Some(value),
            Some((_, Parameter::List(_) | Parameter::Nested)) | None => None,
        }
    }

    /// Drops a parameter, list or not.
    pub(super) fn remove(&mut self, name: &[u8]) {
        self.parameters.retain(|(known, _)| known.as_ref() != name);
    }

    /// Sets a parameter.
    pub(super) fn set_text(&mut self, name: &'a [u8], value: Vec<u8>) {
        self.put(Cow::Borrowed(name), Parameter::Text(Cow::Owned(value)));
    }

    /// Appends `k=v&…`, decoded, numeric names first, then bytewise; lists are joined by commas.
    pub(super) fn write_sorted(&mut self, out: &mut Vec<u8>) -> Result<(), Nested> {
        let rank = |name: &[u8]| number_of(name).unwrap_or(u64::MAX);
        self.parameters
            .sort_by(|(a, _), (b, _)| (rank(a), a).cmp(&(rank(b), b)));
        for (index, (name, parameter)) in self.parameters.iter().enumerate() {
            if index > 0 {
                out.push(b'&');
            }
            out.extend_from_slice(name);
            out.push(b'=');
            match parameter {
                Parameter::Text(value) => out.extend_from_slice(value),
                Parameter::List(list) => {
                    for (index, (_, value)) in list.iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        out.extend_from_slice(value);
                    }
                }
                Parameter::Nested => return Err(Nested),
            }
        }
        Ok(())
    }

    /// A name that PHP changes or reads as a list.
    fn insert(&mut self, name: &[u8], value: Bytes<'a>) {
        let start = name
            .iter()
            .position(|&byte| byte != b' ')
            .unwrap_or(name.len());
        let name = name.get(start..).unwrap_or_default();
        let name = name.split(|&byte| byte == 0).next().unwrap_or(name);
        if name.is_empty() {
            return;
        }
        // A bracket counts only if a name stands before it and another bracket closes it.
        let open = name
            .iter()
            .position(|&byte| byte == b'[')
            .filter(|&open| open > 0);
        let (base, subscript) = name.split_at(open.unwrap_or(name.len()));
        let Some(close) = subscript.iter().position(|&byte| byte == b']') else {
            return self.put(plain_name(name), Parameter::Text(value));
        };
        let key = subscript.get(1..close).unwrap_or_default();
        let name = plain_name(base);
        let parameter = match self.take(&name) {
            _ if subscript.get(close + 1) == Some(&b'[') => Parameter::Nested,
            Parameter::Nested => Parameter::Nested,
            Parameter::Text(_) => Parameter::List(with_entry(Vec::new(), key, value)),
            Parameter::List(list) => Parameter::List(with_entry(list, key, value)),
        };
        self.put(name, parameter);
    }

    /// Moves a parameter's value out; an empty text if it is new.
    fn take(&mut self, name: &[u8]) -> Parameter<'a> {
        let known = self
            .parameters
            .iter_mut()
            .find(|(known, _)| known.as_ref() == name);
        known.map_or_else(Parameter::default, |(_, parameter)| {
            std::mem::take(parameter)
        })
    }

    fn put(&mut self, name: Bytes<'a>, parameter: Parameter<'a>) {
        match self.parameters.iter_mut().find(|(known, _)| *known == name) {
            Some((_, place)) => *place = parameter,
            None => self.parameters.push((name, parameter)),
        }
    }
}

fn with_entry<'a>(mut list: Entries<'a>, key: &[u8], value: Bytes<'a>) -> Entries<'a> {
    let key = if key.is_empty() {
        let highest = list.iter().filter_map(|(key, _)| number_of(key)).max();
        highest
            .map_or(0, |highest| highest.saturating_add(1))
            .to_string()
            .into_bytes()
    } else {
        key.to_vec()
    };
    match list.iter_mut().find(|(known, _)| known.as_ref() == key) {
        Some((_, old)) => *old = value,
        None => list.push((Cow::Owned(key), value)),
    }
    list
}

fn plain_name<'a>(name: &[u8]) -> Bytes<'a> {
    let plain = |&byte: &u8| {
        if matches!(byte, b' ' | b'.' | b'[') {
            b'_'
        } else {
            byte
        }
    };
    name.iter().map(plain).collect()
}

/// The number PHP makes of an array key: digits without leading zero.
fn number_of(key: &[u8]) -> Option<u64> {
    let canonical = key == b"0" || key.first().is_some_and(|first| *first != b'0');
    if !canonical || !key.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(key).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn signed(query: &str) -> Result<String, Nested> {
        let mut out = Vec::new();
        Query::parse(query).write_sorted(&mut out)?;
        Ok(String::from_utf8_lossy(&out).into_owned())
    }

    #[test]
    fn r179_lists_are_joined_by_commas() {
        assert_eq!(signed("x[]=a&x[]=b").unwrap(), "x=a,b");
        assert_eq!(signed("x[5]=a&x[]=b&x[5]=c").unwrap(), "x=c,b");
        assert_eq!(signed("x=1&x[]=2").unwrap(), "x=2");
        assert_eq!(signed("x[]=2&x=1").unwrap(), "x=1");
    }

    #[test]
    fn r180_values_are_decoded_and_a_plus_is_a_space() {
        assert_eq!(
            signed("a=1%2C2&b=c+d&e=%zz&f=%2").unwrap(),
            "a=1,2&b=c d&e=%zz&f=%2"
        );
    }

    #[test]
    fn r181_dots_and_spaces_in_names_become_underscores() {
        assert_eq!(
            signed("a.b=1&+c%20d=2&e[f=3&[g]=4").unwrap(),
            "_g]=4&a_b=1&c_d=2&e_f=3"
        );
    }

    #[test]
    fn r182_names_are_sorted_bytewise_and_the_last_duplicate_wins() {
        assert_eq!(
            signed("b=1&a=2&A=3&a=4&10=5&9=6").unwrap(),
            "9=6&10=5&A=3&a=4&b=1"
        );
        assert_eq!(signed("&&a&=x").unwrap(), "a=");
    }

    #[test]
    fn lists_of_lists_cannot_be_signed() {
        assert_eq!(signed("x[a][b]=1"), Err(Nested));
        assert_eq!(signed("x[a]b=1").unwrap(), "x=1");
    }

    proptest! {
        #[test]
        fn any_query_is_read(query in ".*", odd in r"[\[\]&=a.%+0-9 ]{0,40}") {
            let _ = signed(&query);
            let _ = signed(&odd);
        }
    }
}
