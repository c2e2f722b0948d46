//! The layout of an index file, and the mapped file.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{File, OpenOptions},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::Path,
};

use bytemuck::{Pod, Zeroable, cast_slice};
use memmap2::Mmap;

use super::{
    IndexError,
    codes::{Block, LANES, padded},
    rotation::Rotation,
};

/// The first bytes of a complete file of this version.
const MAGIC: [u8; 8] = *b"RCINDEX1";
/// Where the rows begin.
pub const ROWS_AT: u64 = 4096;
/// Alignment of each section, in bytes: a cache line.
const ALIGNMENT: u64 = 64;
/// The slot of no row: cells are filled up to whole groups of [`LANES`].
pub const NO_ROW: u32 = u32::MAX;

/// The first bytes of a file, which determine the layout of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Header {
    magic: [u8; 8],
    pub dimension: u64,
    pub rows: u64,
    pub owners: u64,
    pub cells: u64,
    /// Groups of [`LANES`] slots.
    pub groups: u64,
    pub label_bytes: u64,
    pub description_bytes: u64,
}

impl Header {
    /// A header without content.
    pub fn new(dimension: usize) -> Self {
        Self { magic: MAGIC, dimension: dimension as u64, ..Self::zeroed() }
    }

    /// Number of words of a code.
    pub fn words(&self) -> usize {
        padded(self.dimension as usize) / 64
    }
}

/// What a file contains, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The embeddings (f32), owner by owner.
    Rows,
    /// Bytes of the caller.
    Description,
    /// Signs of the rotation (u64).
    Signs,
    /// Directions of the cells (f32), of unit length.
    Directions,
    /// Means of the rows of each cell (f32).
    Means,
    /// The first group of each cell, and the number of groups (u32).
    CellStarts,
    /// Codes, group by group.
    Codes,
    /// Gain of each slot (f32); not a number if there is no row.
    Gains,
    /// Row of each slot (u32).
    Slots,
    /// Owner of each row (u32).
    RowOwners,
    /// The first row of each owner, and the number of rows (u32).
    OwnerStarts,
    /// The first byte of each owner's label, and the number of bytes (u32).
    LabelStarts,
    /// The labels (UTF-8).
    Labels,
}

const SECTIONS: usize = Section::Labels as usize + 1;

/// Where the sections are, in bytes.
#[derive(Clone, Debug)]
pub struct Layout([Range<usize>; SECTIONS]);

impl Layout {
    /// Returns the layout of a file with this header; `None` if it would be too large for a file.
    pub fn of(header: &Header) -> Option<Self> {
        let Header { dimension, rows, owners, cells, groups, label_bytes, description_bytes, .. } = *header;
        let small = |n: u64| u32::try_from(n).ok().filter(|n| *n < NO_ROW).map(u64::from);
        let (dimension, rows, owners, cells) = (small(dimension)?, small(rows)?, small(owners)?, small(cells)?);
        let (groups, label_bytes) = (small(groups.checked_mul(LANES as u64)?)? / LANES as u64, small(label_bytes)?);
        let words = padded(usize::try_from(dimension).ok()?) as u64 / 64;
        let vectors = |count: u64| count.checked_mul(dimension)?.checked_mul(4);
        let lengths = [
            vectors(rows)?,
            description_bytes,
            8 * Rotation::words(words as usize * 64) as u64,
            vectors(cells)?,
            vectors(cells)?,
            4 * (cells + 1),
            groups.checked_mul(words)?.checked_mul(size_of::<Block>() as u64)?,
            4 * LANES as u64 * groups,
            4 * LANES as u64 * groups,
            4 * rows,
            4 * (owners + 1),
            4 * (owners + 1),
            label_bytes,
        ];
        let mut end = ROWS_AT;
        let mut ranges = [const { 0..0 }; SECTIONS];
        for (range, length) in ranges.iter_mut().zip(lengths) {
            let start = end.checked_next_multiple_of(ALIGNMENT)?;
            end = start.checked_add(length)?;
            *range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        }
        Some(Self(ranges))
    }

    /// Returns the bytes of a section.
    pub fn range(&self, section: Section) -> Range<usize> {
        self.0[section as usize].clone()
    }

    /// Returns the size of the file, in bytes.
    pub fn file_bytes(&self) -> usize {
        self.range(Section::Labels).end
    }
}

/// An index in a mapped file. Threads and processes share it.
#[derive(Debug)]
pub struct Index {
    file: File,
    map: Mmap,
    pub(super) header: Header,
    layout: Layout,
}

impl Index {
    /// Opens an index and checks that it is complete and consistent.
    ///
    /// # Errors
    /// There is no such file, it cannot be read and written, or it is not an index of this version.
    pub fn open(path: &Path) -> Result<Self, IndexError> {
        Self::of_file(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// Opens an index in an open file.
    ///
    /// # Errors
    /// Same as [`Self::open`].
    pub fn of_file(file: File) -> Result<Self, IndexError> {
        let map = map(&file)?;
        let invalid = || IndexError::Invalid("it is not a complete index of this version".to_owned());
        let header: Header = *map.get(..size_of::<Header>()).map(bytemuck::from_bytes).ok_or_else(invalid)?;
        let layout = Some(header).filter(|h| h.magic == MAGIC && h.dimension > 0).as_ref().and_then(Layout::of);
        let layout = layout.filter(|layout| layout.file_bytes() == map.len()).ok_or_else(invalid)?;
        let index = Self { file, map, header, layout };
        if index.is_consistent() { Ok(index) } else { Err(invalid()) }
    }

    /// Returns whether every number that points somewhere points into its section.
    fn is_consistent(&self) -> bool {
        let ascending = |starts: &[u32], end: u64| {
            starts[0] == 0 && starts.is_sorted() && starts.last().is_some_and(|last| u64::from(*last) == end)
        };
        let Header { rows, owners, groups, label_bytes, .. } = self.header;
        let starts = self.integers(Section::LabelStarts);
        ascending(self.integers(Section::CellStarts), groups)
            && ascending(self.integers(Section::OwnerStarts), rows)
            && ascending(starts, label_bytes)
            && self.integers(Section::Slots).iter().all(|&row| row == NO_ROW || u64::from(row) < rows)
            && self.integers(Section::RowOwners).iter().all(|&owner| u64::from(owner) < owners)
            && str::from_utf8(self.bytes(Section::Labels))
                .is_ok_and(|labels| starts.iter().all(|&start| labels.is_char_boundary(start as usize)))
    }

    /// Returns the bytes given to [`super::Builder::finish`].
    pub fn description(&self) -> &[u8] {
        self.bytes(Section::Description)
    }

    /// Returns the length of the embeddings.
    pub fn dimension(&self) -> usize {
        self.header.dimension as usize
    }

    /// Returns the number of owners.
    pub fn owners(&self) -> u32 {
        self.header.owners as u32
    }

    /// Returns the number of embeddings.
    pub fn rows(&self) -> usize {
        self.header.rows as usize
    }

    /// Returns the label of an owner; zero bytes if it was erased.
    pub fn label(&self, owner: u32) -> &str {
        let labels = &self.bytes(Section::Labels)[self.label_range(owner)];
        str::from_utf8(labels).unwrap_or_default() // checked when the file was opened
    }

    /// Returns the embeddings of an owner, row by row; zeros if they were erased.
    pub fn embeddings(&self, owner: u32) -> &[f32] {
        let rows = self.rows_of(owner);
        let dimension = self.dimension();
        &self.floats(Section::Rows)[rows.start * dimension..rows.end * dimension]
    }

    /// Returns whether an owner was erased.
    pub fn is_erased(&self, owner: u32) -> bool {
        self.label(owner).starts_with('\0')
    }

    /// Overwrites the embeddings, the codes and then the labels of owners with zeros, in the file: every process sees
    /// it. The same for the means of cells in which nobody else is left. Idempotent.
    ///
    /// # Errors
    /// The file cannot be written. Then a part may have been overwritten.
    pub fn erase(&self, owners: &HashSet<u32>) -> Result<(), IndexError> {
        let (row_owners, slots) = (self.integers(Section::RowOwners), self.integers(Section::Slots));
        let row_bytes = self.dimension() * size_of::<f32>();
        for &owner in owners {
            let rows = self.rows_of(owner);
            self.zero(Section::Rows, rows.start * row_bytes..rows.end * row_bytes)?;
        }
        let (mut touched, words) = (BTreeSet::new(), self.header.words());
        for (slot, &row) in slots.iter().enumerate() {
            if row == NO_ROW || !owners.contains(&row_owners[row as usize]) {
                continue;
            }
            for word in 0..words {
                let at = ((slot / LANES * words + word) * LANES + slot % LANES) * size_of::<u64>();
                self.zero(Section::Codes, at..at + size_of::<u64>())?;
            }
            // Not a number, so that the slot is never promising.
            let at = self.layout.range(Section::Gains).start + slot * size_of::<f32>();
            self.file.write_all_at(&f32::NAN.to_ne_bytes(), at as u64)?;
            touched.insert(self.integers(Section::CellStarts).partition_point(|s| *s as usize * LANES <= slot) - 1);
        }
        for cell in touched {
            let starts = &self.integers(Section::CellStarts)[cell..cell + 2];
            let slots = starts[0] as usize * LANES..starts[1] as usize * LANES;
            if self.floats(Section::Gains)[slots].iter().all(|gain| gain.is_nan()) {
                self.zero(Section::Means, cell * row_bytes..(cell + 1) * row_bytes)?;
                self.zero(Section::Directions, cell * row_bytes..(cell + 1) * row_bytes)?;
            }
        }
        // Last, because whoever is interrupted finds the owner by the label.
        owners.iter().try_for_each(|&owner| Ok(self.zero(Section::Labels, self.label_range(owner))?))
    }

    fn zero(&self, section: Section, bytes: Range<usize>) -> std::io::Result<()> {
        let zeros = vec![0; bytes.len()];
        self.file.write_all_at(&zeros, (self.layout.range(section).start + bytes.start) as u64)
    }

    fn label_range(&self, owner: u32) -> Range<usize> {
        range(self.integers(Section::LabelStarts), owner)
    }

    /// Returns the rows of an owner.
    pub(super) fn rows_of(&self, owner: u32) -> Range<usize> {
        range(self.integers(Section::OwnerStarts), owner)
    }

    pub(super) fn bytes(&self, section: Section) -> &[u8] {
        &self.map[self.layout.range(section)]
    }

    pub(super) fn integers(&self, section: Section) -> &[u32] {
        cast_slice(self.bytes(section))
    }

    pub(super) fn floats(&self, section: Section) -> &[f32] {
        cast_slice(self.bytes(section))
    }

    pub(super) fn words(&self, section: Section) -> &[u64] {
        cast_slice(self.bytes(section))
    }

    pub(super) fn codes(&self) -> &[Block] {
        cast_slice(self.bytes(Section::Codes))
    }
}

/// Returns what lies between a start and the next.
fn range(starts: &[u32], at: u32) -> Range<usize> {
    starts[at as usize] as usize..starts[at as usize + 1] as usize
}

/// Maps a file into memory.
pub fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: Reading the map is undefined if the file is truncated meanwhile. Nothing truncates an index: it is
    // complete when it gets its name, is replaced by another file, and is only ever overwritten with zeros and gains
    // that are not numbers, which are valid where they are written.
    #[expect(unsafe_code, reason = "no safe way to share memory between processes")]
    unsafe {
        Mmap::map(file)
    }
}
