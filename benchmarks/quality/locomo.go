package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/engramdb/engram"
)

// locomoTuning is how many conversations, from the first, parameters are tuned on.
const locomoTuning = 5

// locomoDate is how LoCoMo writes when a session was held.
const locomoDate = "3:04 pm on 2 January, 2006"

// The groups that figures are given for.
const (
	groupAll     = "all"
	groupTuning  = "tuning"
	groupHeldOut = "heldout"
)

type locomoConversation struct {
	ID           string                     `json:"sample_id"`
	Conversation map[string]json.RawMessage `json:"conversation"` // session_1, session_1_date_time, speaker_a, ...
	Questions    []locomoQuestion           `json:"qa"`
}

type locomoTurn struct {
	ID      string `json:"dia_id"`
	Speaker string `json:"speaker"`
	Text    string `json:"text"`
	Caption string `json:"blip_caption"`
}

type locomoQuestion struct {
	Text     string   `json:"question"`
	Evidence []string `json:"evidence"` // turns, sometimes several in one string
	Category int      `json:"category"` // 1 multi-hop, 2 temporal, 3 open, 4 single-hop, 5 adversarial
}

func readLocomo(dir string) ([]collection, error) {
	file, err := os.Open(filepath.Join(dir, "locomo10.json"))
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // nothing was written
	return parseLocomo(file)
}

// parseLocomo reads conversations; each becomes a collection of its turns.
func parseLocomo(r io.Reader) ([]collection, error) {
	var conversations []locomoConversation
	if err := json.NewDecoder(r).Decode(&conversations); err != nil {
		return nil, fmt.Errorf("LoCoMo: %w", err)
	}
	collections := make([]collection, 0, len(conversations))
	for i, c := range conversations {
		memories, err := c.memories()
		if err != nil {
			return nil, fmt.Errorf("LoCoMo conversation %s: %w", c.ID, err)
		}
		half := groupTuning
		if i >= locomoTuning {
			half = groupHeldOut
		}
		collections = append(collections, collection{
			space:     engram.SpaceID(c.ID),
			memories:  memories,
			questions: c.questions(memories, half),
		})
	}
	return collections, nil
}

// memories are the turns of all sessions. A turn's time is its session's date
// plus a second for each turn before it.
func (c *locomoConversation) memories() ([]engram.Memory, error) {
	var memories []engram.Memory
	for _, session := range c.sessions() {
		var turns []locomoTurn
		if err := json.Unmarshal(c.Conversation[session], &turns); err != nil {
			return nil, fmt.Errorf("%s: %w", session, err)
		}
		var date string
		if err := json.Unmarshal(c.Conversation[session+"_date_time"], &date); err != nil {
			return nil, fmt.Errorf("date of %s: %w", session, err)
		}
		start, err := time.Parse(locomoDate, date)
		if err != nil {
			return nil, fmt.Errorf("date of %s: %w", session, err)
		}
		for i, turn := range turns {
			content := turn.Speaker + ": " + turn.Text
			if turn.Caption != "" {
				content += "\n" + turn.Caption
			}
			memories = append(memories, engram.Memory{
				ID:      turn.ID,
				Content: content,
				Time:    start.Add(time.Duration(i) * time.Second),
				Episode: session,
			})
		}
	}
	return memories, nil
}

var locomoSession = regexp.MustCompile(`^session_(\d+)$`)

// sessions are the names of the sessions that have turns, in order. Some are
// announced with a date and were never held.
func (c *locomoConversation) sessions() []string {
	numbers := map[string]int{}
	names := []string{}
	for name := range c.Conversation {
		if match := locomoSession.FindStringSubmatch(name); match != nil {
			number, err := strconv.Atoi(match[1])
			if err == nil {
				numbers[name] = number
				names = append(names, name)
			}
		}
	}
	slices.SortFunc(names, func(a, b string) int { return numbers[a] - numbers[b] })
	return names
}

// questions leaves out those that name no turn as their evidence.
func (c *locomoConversation) questions(memories []engram.Memory, half string) []question {
	turns := map[string]bool{}
	for _, m := range memories {
		turns[m.ID] = true
	}
	var questions []question
	for _, q := range c.Questions {
		gold := map[string]bool{}
		for _, turn := range evidenceTurns(q.Evidence) {
			if turns[turn] {
				gold[turn] = true
			}
		}
		if len(gold) == 0 {
			continue
		}
		questions = append(questions, question{
			text:   strings.TrimSpace(q.Text),
			gold:   gold,
			groups: []string{groupAll, half, categoryGroup(q.Category), half + "_" + categoryGroup(q.Category)},
		})
	}
	return questions
}

// locomoEvidence matches a turn in an evidence string: most are "D1:3", some
// hold several ("D1:3; D2:5"), a few are misspelt ("D:11:26", "D30:05").
var locomoEvidence = regexp.MustCompile(`D:?0*(\d+):0*(\d+)`)

func evidenceTurns(evidence []string) []string {
	var turns []string
	for _, text := range evidence {
		for _, match := range locomoEvidence.FindAllStringSubmatch(text, -1) {
			turns = append(turns, "D"+match[1]+":"+match[2])
		}
	}
	return turns
}

// categoryPrefix begins the groups of categories; those of a half have its name
// before it.
const categoryPrefix = "category"

func categoryGroup(category int) string { return fmt.Sprint(categoryPrefix, category) }
