//! A map by the name of a service, whose copies share everything that they have in common.
//!
//! The view of all services is swapped whole, so that a lookup reads one consistent state and takes no lock. If it were
//! a plain hash map, each change would copy one entry for every service that is followed. This map is a tree: a branch
//! has sixteen children, chosen by four bits of the hash, and a leaf has a few entries. A copy shares the root. An
//! update then copies the branches on the way to one leaf and that leaf, which for 10,000 services are three branches.

use crate::discovery::name::Name;
use rustc_hash::FxHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The bits of the hash that choose a child.
const BITS: u32 = 4;
const CHILDREN: usize = 1 << BITS;
/// A leaf with more entries becomes a branch.
const MAX_ENTRIES: usize = 8;
/// A branch with no more entries becomes a leaf again. Fewer than `MAX_ENTRIES`, so that a service that comes and goes
/// does not split and join a leaf each time.
const FEW_ENTRIES: usize = 4;

/// A persistent map: `clone` costs one reference count, and an update copies only what it touches.
///
/// Its keys are names that this program looks up, so its hash need not withstand an attack.
#[derive(Debug)]
pub(crate) struct Table<T> {
    root: Node<T>,
}

#[derive(Debug)]
enum Node<T> {
    Leaf(Arc<[Entry<T>]>),
    Branch(Arc<[Node<T>; CHILDREN]>),
}

#[derive(Debug)]
struct Entry<T> {
    hash: u64,
    name: Name,
    value: Arc<T>,
}

impl<T> Table<T> {
    #[inline(always)]
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// Returns the name as the table has it. A lookup with a copy of that compares addresses, not texts.
    pub(crate) fn name(&self, name: &str) -> Option<&Name> {
        self.entry(name).map(|entry| &entry.name)
    }

    #[inline(always)]
    fn entry(&self, name: &str) -> Option<&Entry<T>> {
        let hash = hash(name);
        let (mut node, mut rest) = (&self.root, hash);
        loop {
            match node {
                Node::Leaf(entries) => return entries.iter().find(|entry| entry.is(hash, name)),
                Node::Branch(children) => node = &children[rest as usize % CHILDREN],
            }
            rest >>= BITS;
        }
    }

    /// Sets the value of a name. A name that is there already stays the same allocation.
    pub(crate) fn insert(&mut self, name: &Name, value: Arc<T>) {
        let entry = Entry {
            hash: hash(name),
            name: name.clone(),
            value,
        };
        self.root.insert(entry, 0);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.root.remove(hash(name), name, 0);
    }
}

/// The value of the four bits at this place, each level of the tree having the next four.
fn child(hash: u64, shift: u32) -> usize {
    (hash >> shift) as usize % CHILDREN
}

#[inline(always)]
fn hash(name: &str) -> u64 {
    let mut hasher = FxHasher::default();
    name.hash(&mut hasher);
    hasher.finish()
}

impl<T> Entry<T> {
    #[inline(always)]
    fn is(&self, hash: u64, name: &str) -> bool {
        self.hash == hash && (std::ptr::eq(&*self.name, name) || *self.name == *name)
    }
}

impl<T> Node<T> {
    /// Makes a tree of entries whose hashes are equal up to `shift`. If all bits are used up they stay in one leaf.
    fn of(entries: Vec<Entry<T>>, shift: u32) -> Node<T> {
        if entries.len() <= MAX_ENTRIES || shift >= u64::BITS {
            return Node::Leaf(entries.into());
        }
        let mut children: [Vec<Entry<T>>; CHILDREN] = Default::default();
        for entry in entries {
            children[child(entry.hash, shift)].push(entry);
        }
        let nodes = children.map(|entries| Node::of(entries, shift + BITS));
        Node::Branch(Arc::new(nodes))
    }

    fn insert(&mut self, entry: Entry<T>, shift: u32) {
        // `make_mut` copies a node only if another table shares it, so several updates of one copy share the copied
        // nodes.
        match self {
            Node::Branch(children) => {
                let child = child(entry.hash, shift);
                Arc::make_mut(children)[child].insert(entry, shift + BITS);
            }
            Node::Leaf(entries) => {
                let mut same = entries.iter();
                if let Some(at) = same.position(|one| one.is(entry.hash, &entry.name)) {
                    Arc::make_mut(entries)[at].value = entry.value;
                } else {
                    let more = entries.iter().cloned().chain([entry]);
                    *self = Node::of(more.collect(), shift);
                }
            }
        }
    }

    fn remove(&mut self, hash: u64, name: &str, shift: u32) {
        match self {
            Node::Branch(children) => {
                let children = Arc::make_mut(children);
                children[child(hash, shift)].remove(hash, name, shift + BITS);
                if let Some(entries) = few(children) {
                    *self = Node::Leaf(entries);
                }
            }
            Node::Leaf(entries) => {
                let others = entries.iter().filter(|entry| !entry.is(hash, name));
                *entries = others.cloned().collect();
            }
        }
    }
}

/// Returns the entries of leaves that are few enough for one.
fn few<T>(children: &[Node<T>; CHILDREN]) -> Option<Arc<[Entry<T>]>> {
    let mut count = 0;
    for child in children {
        match child {
            Node::Leaf(entries) => count += entries.len(),
            Node::Branch(_) => return None,
        }
    }
    (count <= FEW_ENTRIES).then(|| children.iter().flat_map(Node::entries).cloned().collect())
}

impl<T> Node<T> {
    /// Returns the entries of a leaf.
    fn entries(&self) -> &[Entry<T>] {
        match self {
            Node::Leaf(entries) => entries,
            Node::Branch(_) => &[],
        }
    }
}

// By hand: derived implementations would require that `T` has the same traits.
impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        let root = Node::Leaf(Arc::new([]));
        Table { root }
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Table<T> {
        let root = self.root.clone();
        Table { root }
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Node<T> {
        match self {
            Node::Leaf(entries) => Node::Leaf(entries.clone()),
            Node::Branch(children) => Node::Branch(children.clone()),
        }
    }
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Entry<T> {
        Entry {
            hash: self.hash,
            name: self.name.clone(),
            value: self.value.clone(),
        }
    }
}

/// For tests only.
#[cfg(test)]
impl<T> Table<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Arc<T>)> {
        let all = self.root.all().into_iter();
        all.map(|entry| (&entry.name, &entry.value))
    }
}

#[cfg(test)]
impl<T> Node<T> {
    fn all(&self) -> Vec<&Entry<T>> {
        match self {
            Node::Leaf(entries) => entries.iter().collect(),
            Node::Branch(children) => children.iter().flat_map(Node::all).collect(),
        }
    }
}

#[cfg(test)]
impl<T> std::ops::Index<&str> for Table<T> {
    type Output = Arc<T>;

    fn index(&self, name: &str) -> &Arc<T> {
        self.get(name).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn name(number: u32) -> Name {
        format!("service-{number}").as_str().into()
    }

    fn table(count: u32) -> Table<u32> {
        let mut table = Table::default();
        (0..count).for_each(|number| table.insert(&name(number), Arc::new(number)));
        table
    }

    /// Returns the addresses of all nodes.
    fn nodes(node: &Node<u32>) -> Vec<*const u8> {
        match node {
            Node::Leaf(entries) => vec![Arc::as_ptr(entries).cast()],
            Node::Branch(children) => {
                let own = Arc::as_ptr(children).cast();
                let below = children.iter().flat_map(nodes);
                below.chain([own]).collect()
            }
        }
    }

    #[test]
    fn an_update_copies_one_way_through_the_tree_and_leaves_the_old_table_as_it_was() {
        for count in [1, 10, 1_000, 20_000] {
            let before = table(count);
            let mut after = before.clone();
            after.insert(&name(0), Arc::new(7));
            assert_eq!((*before["service-0"], *after["service-0"]), (0, 7));
            let old: std::collections::HashSet<_> = nodes(&before.root).into_iter().collect();
            let new = nodes(&after.root);
            let copied = new.iter().filter(|node| !old.contains(*node)).count();
            assert!((1..=6).contains(&copied), "{copied} of {count}");
        }
    }

    #[test]
    fn a_table_that_has_become_small_is_one_leaf_again() {
        let mut table = table(5_000);
        (0..4_997).for_each(|number| table.remove(&name(number)));
        assert_eq!(table.iter().count(), 3);
        assert_eq!(nodes(&table.root).len(), 1);
    }

    #[test]
    fn a_name_that_is_there_already_stays_the_same_allocation() {
        let mut table = table(100);
        let first = table.name("service-7").unwrap().as_ptr();
        table.insert(&name(7), Arc::new(8));
        assert_eq!(table.name("service-7").unwrap().as_ptr(), first);
        assert_eq!(*table["service-7"], 8);
    }

    #[test]
    fn names_with_one_hash_are_told_apart() {
        let mut root = Node::Leaf(Arc::new([]));
        for number in 0..20 {
            let (name, value) = (name(number), Arc::new(number));
            root.insert(
                Entry {
                    hash: 5,
                    name,
                    value,
                },
                0,
            );
        }
        root.remove(5, "service-3", 0);
        let mut left: Vec<u32> = root.all().iter().map(|entry| *entry.value).collect();
        left.sort_unstable();
        let expected: Vec<u32> = (0..20).filter(|number| *number != 3).collect();
        assert_eq!(left, expected);
    }

    proptest! {
        #[test]
        fn a_table_holds_what_a_map_does(
            steps in prop::collection::vec((0..60_u32, any::<bool>(), any::<u32>()), 0..400)
        ) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (number, is_insert, value) in steps {
                if is_insert {
                    table.insert(&name(number), Arc::new(value));
                    map.insert(name(number), value);
                } else {
                    table.remove(&name(number));
                    map.remove(&name(number));
                }
                let held = table.iter().map(|(name, value)| (name.clone(), **value));
                prop_assert_eq!(&held.collect::<BTreeMap<_, _>>(), &map);
            }
            for number in 0..60 {
                let held = table.get(&name(number)).map(|value| **value);
                prop_assert_eq!(held, map.get(&*name(number)).copied());
            }
        }
    }
}
