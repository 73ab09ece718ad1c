//! The parts of a template: literals, and variables with their place in a URL.

// Clients read a backslash as a slash. Only a literal can have one, because it is encoded in values.
pub(super) const SLASHES: [char; 2] = ['/', '\\'];
pub(super) const SEGMENT_ENDS: [char; 4] = ['/', '\\', '?', '#'];

/// The part of a URL that a variable is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    Authority,
    #[default]
    Path,
    Query,
    Fragment,
}

impl Place {
    fn after(self, literal: &str) -> Place {
        match self {
            // A `?` has no meaning in a fragment, and a `#` ends every other place.
            Place::Fragment => Place::Fragment,
            _ if literal.contains('#') => Place::Fragment,
            Place::Query => Place::Query,
            _ if literal.contains('?') => Place::Query,
            Place::Authority if literal.contains(SLASHES) => Place::Path,
            same => same,
        }
    }
}

/// One part of a template: the length of its text, and the position of a variable.
///
/// It is packed into 4 bytes because a node of a megabyte can hold hundreds of thousands of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part(u32);

impl Part {
    const VARIABLE: u32 = 1 << 31;
    const PLACE: u32 = 29;
    const NEAR_DOTS: u32 = 1 << 28;
    const LEN: u32 = Part::NEAR_DOTS - 1;

    pub(super) fn literal(text: &str) -> Part {
        // A template is never as long as this limit.
        Part((text.len() as u32).min(Part::LEN))
    }

    pub(super) fn variable(name: &str) -> Part {
        let Part(len) = Part::literal(name);
        Part(Part::VARIABLE | len)
    }

    #[inline]
    pub(super) fn len(self) -> usize {
        (self.0 & Part::LEN) as usize
    }

    #[inline]
    pub(super) fn position(self) -> Option<Position> {
        (self.0 & Part::VARIABLE != 0).then_some(Position(self.0))
    }
}

/// The position of a variable, in the bits of its part: its place, and whether the literals in its path segment could
/// make the segment `.` or `..` with a value that has no dot.
///
/// Both are found once for a template, and not for each URL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position(u32);

impl Position {
    /// Returns the number of the [`Place`].
    #[inline]
    pub(super) fn place(self) -> usize {
        (self.0 >> Part::PLACE & 3) as usize
    }

    #[inline]
    pub(super) fn is_near_dots(self) -> bool {
        self.0 & Part::NEAR_DOTS != 0
    }
}

/// Finds the positions of the variables. The authority of a whole URL begins at the byte `authority` of the text.
pub(super) fn locate(parts: &mut [Part], text: &str, authority: Option<usize>) {
    let (mut scan, mut begin) = (Scan::default(), 0);
    for index in 0..parts.len() {
        // Up to this part, so that the end of a segment marks no later variable.
        let Some(seen) = parts.get_mut(..=index) else {
            return;
        };
        let Some(part) = seen.last_mut() else {
            return;
        };
        let end = begin + part.len();
        let literal = text.get(begin..end).unwrap_or_default();
        if part.position().is_some() {
            part.0 |= (scan.place as u32) << Part::PLACE;
        } else if let Some(at) = authority.filter(|at| begin < *at && *at <= end) {
            let (scheme, rest) = literal.split_at_checked(at - begin).unwrap_or_default();
            scan.pass(scheme, seen);
            scan.place = Place::Authority;
            scan.pass(rest, seen);
        } else {
            scan.pass(literal, seen);
        }
        begin = end;
    }
    scan.end(parts);
}

#[derive(Default)]
struct Scan {
    place: Place,
    /// The first part of the path segment that has not ended.
    segment: usize,
    /// Set if a literal in that segment has dots.
    dotted: bool,
}

impl Scan {
    /// Passes a literal, which is in the last of the parts.
    fn pass(&mut self, literal: &str, parts: &mut [Part]) {
        self.place = self.place.after(literal);
        for (nth, piece) in literal.split(SEGMENT_ENDS).enumerate() {
            if nth > 0 {
                self.end(parts);
            }
            // A dot may be spelled `%2e`, and a variable may be in the middle of that.
            self.dotted |= piece.contains(['.', '%']);
        }
    }

    /// Ends the path segment. If a literal in it has dots, its variables are marked.
    fn end(&mut self, parts: &mut [Part]) {
        let ended = parts.get_mut(self.segment..).unwrap_or_default();
        let variables = ended.iter_mut().filter(|part| part.position().is_some());
        if std::mem::take(&mut self.dotted) {
            variables.for_each(|part| part.0 |= Part::NEAR_DOTS);
        }
        self.segment = parts.len();
    }
}
