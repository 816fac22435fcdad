//! The values of a pickle: a flat arena that refers to itself by place.
//!
//! References are places, so a value that occurs a million times is stored once, sharing costs nothing, and
//! dropping is a loop: no file can make any of these recurse or multiply.

use super::globals::Global;

/// A value of a [`Pickle`], by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(super) u32);

/// A Python object, as far as weights need it.
#[derive(Debug)]
pub(crate) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float,
    Str(&'a str),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// What a rebuilding function would be called with.
    Call {
        function: Global,
        args: Id,
    },
    /// A reference to something outside the pickle: a storage or a tensor.
    Persistent(Id),
    /// An object that is passed over.
    Opaque,
}

impl Value<'_> {
    /// What it is, for messages.
    pub(crate) fn noun(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool => "a bool",
            Self::Int(_) => "an integer",
            Self::Float => "a float",
            Self::Str(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dict",
            Self::Global(_) => "a class or function",
            Self::Call { .. } | Self::Persistent(_) => "a tensor or storage",
            Self::Opaque => "an object",
        }
    }
}

/// What a pickle holds.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    pub(super) values: Vec<Value<'a>>,
    pub(super) top: Id,
}

impl<'a> Pickle<'a> {
    /// The object that was pickled.
    pub(crate) fn top(&self) -> Id {
        self.top
    }

    /// The value at a place.
    pub(crate) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// All persistent references, by what they refer to.
    pub(crate) fn persistent(&self) -> impl Iterator<Item = Id> {
        self.values.iter().filter_map(|v| if let Value::Persistent(id) = v { Some(*id) } else { None })
    }

    pub(crate) fn text(&self, id: Id) -> Option<&'a str> {
        if let Value::Str(text) = self.value(id) { Some(text) } else { None }
    }

    pub(crate) fn int(&self, id: Id) -> Option<i64> {
        if let Value::Int(n) = self.value(id) { Some(*n) } else { None }
    }

    /// A number of things: an integer that is not negative.
    pub(crate) fn count(&self, id: Id) -> Option<usize> {
        self.int(id).and_then(|n| n.try_into().ok())
    }

    /// The items of a tuple or list.
    pub(crate) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::Tuple(items) => Some(items),
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dictionary, in order.
    pub(crate) fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Value::Dict(entries) = self.value(id) { Some(entries) } else { None }
    }

    /// The values of a tuple or list of counts, such as a shape.
    pub(crate) fn counts(&self, id: Id) -> Option<Vec<usize>> {
        let items = self.items(id)?;
        if items.len() > 8 {
            return None; // no weight has so many dimensions
        }
        items.iter().map(|&item| self.count(item)).collect()
    }
}
