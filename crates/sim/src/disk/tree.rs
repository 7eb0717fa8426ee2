//! The directory tree: names in both views, and the operations on them that are not yet durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::cut::Cutter;
use super::file::FileNode;

/// A file or directory, whatever its names.
pub(super) type Ino = u64;

const ROOT: Ino = 0;

/// Everything on the disk, in both views. Cloning shares all nodes.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<Ino, Arc<Node>>,
    next_ino: Ino,
    next_op: u64,
    /// Whether files are extended without being written, as `fallocate` does.
    pub(super) sets_room_aside: bool,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    names: BTreeMap<String, Ino>,
    durable: BTreeMap<String, Ino>,
    /// Operations on this directory's names since its last sync, oldest first.
    pending: Vec<NameOp>,
}

#[derive(Clone, Debug)]
struct NameOp {
    id: u64,
    /// The name that appears, and what it names.
    link: Option<(String, Ino)>,
    /// The name that disappears if it still names this.
    unlink: Option<(String, Ino)>,
    /// The directory whose operation of the same id must have survived too: the other half of a
    /// rename between directories, without which the file would have no name at all.
    after: Option<Ino>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Arc::new(Node::Dir(DirNode::default()));
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self { nodes, next_ino: ROOT + 1, next_op: 0, sets_room_aside: false }
    }

    pub(super) fn file(&self, ino: Ino) -> io::Result<&FileNode> {
        match self.nodes.get(&ino).map(Arc::as_ref) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn file_mut(&mut self, ino: Ino) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&ino).map(Arc::make_mut) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    pub(super) fn find_file(&self, path: &str) -> io::Result<Ino> {
        let ino = self.find(path)?;
        self.file(ino).map(|_| ino)
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<bool> {
        let (mut at, mut made) = (ROOT, false);
        for part in parts(path) {
            let found = self.dir(at)?.names.get(part).copied();
            at = match found {
                Some(ino) => {
                    self.dir(ino)?;
                    ino
                }
                None => {
                    made = true;
                    self.add(at, part, Node::Dir(DirNode::default()))?
                }
            };
        }
        Ok(made)
    }

    pub(super) fn create_file(&mut self, path: &str) -> io::Result<Ino> {
        let (dir, name) = self.locate(path)?;
        if self.dir(dir)?.names.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.to_owned()));
        }
        self.add(dir, name, Node::File(FileNode::default()))
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let ino = self.find(path)?;
        Ok(self.dir(ino)?.names.keys().cloned().collect())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let ino = self.find(from)?;
        let (from_dir, from_name) = self.locate(from)?;
        let (to_dir, to_name) = self.locate(to)?;
        let id = self.op_id();
        let link = Some((to_name.to_owned(), ino));
        let unlink = Some((from_name.to_owned(), ino));
        if from_dir == to_dir {
            return self.apply(from_dir, NameOp { id, link, unlink, after: None });
        }
        self.apply(to_dir, NameOp { id, link, unlink: None, after: None })?;
        self.apply(from_dir, NameOp { id, link: None, unlink, after: Some(to_dir) })
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        let ino = self.find_file(path)?;
        self.unlink(path, ino)
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        let ino = self.find(path)?;
        if !self.dir(ino)?.names.is_empty() {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        self.unlink(path, ino)
    }

    pub(super) fn sync_dir(&mut self, path: &str) -> io::Result<()> {
        let ino = self.find(path)?;
        let dir = self.dir_mut(ino)?;
        let ops = std::mem::take(&mut dir.pending);
        for op in &ops {
            op.run(&mut dir.durable);
        }
        for op in ops {
            if let Some(partner) = op.after {
                self.sync_half(partner, op.id)?;
            }
        }
        Ok(())
    }

    pub(super) fn allocated(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match node.as_ref() {
                Node::File(file) => file.allocated(),
                Node::Dir(_) => 1,
            })
            .sum()
    }

    /// Frees what has no name and is not `open`.
    pub(super) fn drop_nameless(&mut self, open: impl Fn(Ino) -> bool) {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Dir(dir) = node.as_ref() {
                named.extend(dir.names.values().chain(dir.durable.values()).copied());
                named.extend(dir.pending.iter().filter_map(|op| Some(op.link.as_ref()?.1)));
            }
        }
        self.nodes.retain(|ino, _| named.contains(ino) || open(*ino));
    }

    /// The tree after a power cut that kept of the unsynced changes what `cutter` says.
    pub(super) fn cut(&self, cutter: &mut dyn Cutter) -> Self {
        let mut after = Self { nodes: BTreeMap::new(), ..Self::new() };
        after.next_ino = self.next_ino;
        after.next_op = self.next_op;
        let names = self.surviving_names(cutter);
        self.cut_dir(ROOT, "", &names, &mut after, cutter);
        after
    }

    fn cut_dir(
        &self,
        ino: Ino,
        path: &str,
        names: &BTreeMap<Ino, BTreeMap<String, Ino>>,
        after: &mut Self,
        cutter: &mut dyn Cutter,
    ) {
        let entries = names.get(&ino).cloned().unwrap_or_default();
        for (name, child) in &entries {
            if after.nodes.contains_key(child) {
                continue;
            }
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            match self.nodes.get(child).map(Arc::as_ref) {
                Some(Node::Dir(_)) => self.cut_dir(*child, &path, names, after, cutter),
                Some(Node::File(file)) => {
                    let file = file.cut(&path, cutter);
                    after.nodes.insert(*child, Arc::new(Node::File(file)));
                }
                None => {}
            }
        }
        let dir = DirNode { names: entries.clone(), durable: entries, pending: Vec::new() };
        after.nodes.insert(ino, Arc::new(Node::Dir(dir)));
    }

    fn surviving_names(&self, cutter: &mut dyn Cutter) -> BTreeMap<Ino, BTreeMap<String, Ino>> {
        let mut kept: BTreeSet<(Ino, u64)> = BTreeSet::new();
        let mut forced: BTreeSet<(Ino, u64)> = BTreeSet::new();
        for (ino, dir) in self.dirs() {
            for op in &dir.pending {
                let name = op.link.as_ref().or(op.unlink.as_ref()).map_or("", |(name, _)| name);
                if cutter.name(name) {
                    kept.insert((ino, op.id));
                    forced.extend(op.after.map(|partner| (partner, op.id)));
                }
            }
        }
        let mut names = BTreeMap::new();
        for (ino, dir) in self.dirs() {
            let mut entries = dir.durable.clone();
            for op in &dir.pending {
                if kept.contains(&(ino, op.id)) || forced.contains(&(ino, op.id)) {
                    op.run(&mut entries);
                }
            }
            names.insert(ino, entries);
        }
        names
    }

    fn dirs(&self) -> impl Iterator<Item = (Ino, &DirNode)> {
        self.nodes.iter().filter_map(|(ino, node)| match node.as_ref() {
            Node::Dir(dir) => Some((*ino, dir)),
            Node::File(_) => None,
        })
    }

    fn sync_half(&mut self, ino: Ino, id: u64) -> io::Result<()> {
        let dir = self.dir_mut(ino)?;
        if let Some(at) = dir.pending.iter().position(|op| op.id == id) {
            let op = dir.pending.remove(at);
            op.run(&mut dir.durable);
        }
        Ok(())
    }

    fn add(&mut self, dir: Ino, name: &str, node: Node) -> io::Result<Ino> {
        let (ino, id) = (self.next_ino, self.op_id());
        self.next_ino += 1;
        self.nodes.insert(ino, Arc::new(node));
        let link = Some((name.to_owned(), ino));
        self.apply(dir, NameOp { id, link, unlink: None, after: None })?;
        Ok(ino)
    }

    fn unlink(&mut self, path: &str, ino: Ino) -> io::Result<()> {
        let (dir, name) = self.locate(path)?;
        let unlink = Some((name.to_owned(), ino));
        let id = self.op_id();
        self.apply(dir, NameOp { id, link: None, unlink, after: None })
    }

    fn apply(&mut self, dir: Ino, op: NameOp) -> io::Result<()> {
        let dir = self.dir_mut(dir)?;
        op.run(&mut dir.names);
        dir.pending.push(op);
        Ok(())
    }

    fn op_id(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op
    }

    fn find(&self, path: &str) -> io::Result<Ino> {
        let mut at = ROOT;
        for part in parts(path) {
            let found = self.dir(at)?.names.get(part);
            at = *found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path.to_owned()))?;
        }
        Ok(at)
    }

    fn locate<'a>(&self, path: &'a str) -> io::Result<(Ino, &'a str)> {
        let path = path.trim_matches('/');
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(dir)?, name))
    }

    fn dir(&self, ino: Ino) -> io::Result<&DirNode> {
        match self.nodes.get(&ino).map(Arc::as_ref) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }

    fn dir_mut(&mut self, ino: Ino) -> io::Result<&mut DirNode> {
        match self.nodes.get_mut(&ino).map(Arc::make_mut) {
            Some(Node::Dir(dir)) => Ok(dir),
            _ => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        }
    }
}

impl NameOp {
    fn run(&self, names: &mut BTreeMap<String, Ino>) {
        if let Some((name, ino)) = &self.unlink
            && names.get(name) == Some(ino)
        {
            names.remove(name);
        }
        if let Some((name, ino)) = &self.link {
            names.insert(name.clone(), *ino);
        }
    }
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".")
}
