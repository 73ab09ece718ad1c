//! The parts of a template: literals, and variables with the place in a URL that they stand in.

// Clients take a backslash for a slash. Only literals can hold one: values have it encoded.
pub(super) const SLASHES: [char; 2] = ['/', '\\'];
pub(super) const SEGMENT_ENDS: [char; 4] = ['/', '\\', '?', '#'];

/// The part of a URL that a variable stands in.
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
            // A `?` means nothing in a fragment, and a `#` ends whatever stands before it.
            Place::Fragment => Place::Fragment,
            _ if literal.contains('#') => Place::Fragment,
            Place::Query => Place::Query,
            _ if literal.contains('?') => Place::Query,
            Place::Authority if ends_authority(literal) => Place::Path,
            same => same,
        }
    }
}

fn ends_authority(literal: &str) -> bool {
    let after_scheme = literal.strip_prefix("://").unwrap_or(literal);
    after_scheme.contains(SLASHES)
}

/// One part of a template: the length of its text, and its position where it is a variable. There may be so many that
/// each byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part(u32);

impl Part {
    const VARIABLE: u32 = 1 << 31;
    const PLACE: u32 = 29;
    const NEAR_DOTS: u32 = 1 << 28;
    const LEN: u32 = Part::NEAR_DOTS - 1;

    pub(super) fn literal(text: &str) -> Part {
        // Templates are kept far shorter than that.
        Part((text.len() as u32).min(Part::LEN))
    }

    fn variable(name: &str, place: Place) -> Part {
        let Part(len) = Part::literal(name);
        Part(Part::VARIABLE | (place as u32) << Part::PLACE | len)
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

/// The place of a variable, and whether the literals in its path segment may make it `.` or `..` together with a value
/// that has no dot. Found once for a template, not for each URL. In the bits of its part.
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

/// Finds the positions of variables while the parts of a template are put together.
#[derive(Debug, Default)]
pub(super) struct Scan {
    place: Place,
    /// The first part of the path segment that has not ended, and whether there are dots in it.
    segment: usize,
    dotted: bool,
}

impl Scan {
    pub(super) fn begin_authority(&mut self) {
        self.place = Place::Authority;
    }

    /// Returns the part for a variable that comes next.
    pub(super) fn variable(&self, name: &str) -> Part {
        Part::variable(name, self.place)
    }

    /// Takes up a literal, the last of the parts.
    pub(super) fn pass(&mut self, literal: &str, parts: &mut [Part]) {
        self.place = self.place.after(literal);
        for (nth, piece) in literal.split(SEGMENT_ENDS).enumerate() {
            if nth > 0 {
                self.end(parts);
            }
            // It may be spelled `%2e`, and a variable may stand in the middle of that.
            self.dotted |= piece.contains(['.', '%']);
        }
    }

    /// Ends the segment, which tells what its variables stand near to.
    pub(super) fn end(&mut self, parts: &mut [Part]) {
        let ended = parts.get_mut(self.segment..).unwrap_or_default();
        let variables = ended.iter_mut().filter(|part| part.position().is_some());
        if std::mem::take(&mut self.dotted) {
            variables.for_each(|part| part.0 |= Part::NEAR_DOTS);
        }
        self.segment = parts.len();
    }
}
