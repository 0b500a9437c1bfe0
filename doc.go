// Package engram gives every tenant of an application (an agent, a user, a
// project) its own memory space: durable, searchable, associative, and isolated
// from every other tenant. It is a library: a process opens one [Registry] and
// embeds it.
//
//	registry, err := engram.Open("engram-data", engram.Options{})
//	space, err := registry.GetOrCreate(ctx, "alice", engram.SpaceConfig{})
//	_, err = space.Remember(ctx, engram.Memory{Content: "Alice likes green tea."})
//	answer, err := space.Recall(ctx, engram.Cue{Text: "what tea does she like?"})
//
// # Promises
//
//  1. When a write returns nil under the default durability, it survives process
//     kill, crash of the operating system and power loss, provided the device
//     honours flush.
//  2. Under the default durability a recall, lookup or listing never shows a
//     write that is not yet durable. An event never does, under any.
//  3. After any crash a space reopens to a prefix of its history that contains
//     every acknowledged write, whole batches only.
//  4. If stored bytes were changed, moved between spaces or lost, the space
//     refuses writes and says what is damaged, and where; the other spaces do
//     not notice. Damage to the journal's own tables stops the registry.
//     docs/durability.md lists what cannot be detected.
//  5. What a caller of one space observes is the same whether or not other
//     spaces exist or act. Timing is not part of this.
//  6. A filtered recall never under-returns: if at least k memories satisfy the
//     filter and match the cue, as [Space.Recall] says, limit k returns k. The
//     same state and cue give the same answer.
//  7. A forgotten memory is invisible at once in every path, stays forgotten
//     after a restart, and after Checkpoint and Settle, once earlier readers
//     have ended, its bytes are in no file.
//
// # Words
//
// A registry owns one data directory. A space is one tenant's memory; its
// incarnation tells it from others that had its id. A memory is one remembered
// thing, a cue what a recall is asked with, a recollection one answer. A seq
// numbers the operations of a space without gaps. A frame is what commits
// together; the journal makes the frames of all spaces durable; a space's log
// is its own history, settled up to its mark. A space sleeps while nothing but
// its name is in memory.
//
// # Concurrency
//
// Every exported method may be called from many goroutines. Writes of all
// spaces share one group commit, in which no space waits for another's files.
// Reads work on immutable snapshots, and hold a lock that a commit waits for only
// while one is made. Where several locks are taken, it is in this order, one of those
// between commas:
//
//	Registry.training > Space.mu > maintenance.running > awake.commits
//	> log.files, log.removing > log.pins > store.mu > log.mu
//	> segment.mu, journal.mu, Registry.reserve, embedding.mu
//	> occupancy.mu > Registry.mu, committer.mu, feed.mu
//
// A context ends what computes, and what waits for other callers or for a group commit.
// It ends no call of the operating system: who wakes, renames or deletes a space waits
// for its files. Who needs that space meanwhile leaves when their context ends.
//
// Idle spaces fall asleep, those first that were not used for the longest, where all take
// more memory than [Options].MemoryBudget, and where descriptors run out. They do so with
// whatever is locked: nobody who holds a lock of theirs waits for another. A write that
// finds no descriptor all the same fails and can be tried again. No goroutine runs for an
// idle space, and Close joins those that run.
package engram
