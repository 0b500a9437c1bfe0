package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const locomoSample = `[{
  "sample_id": "conv-1",
  "conversation": {
    "speaker_a": "Ann", "speaker_b": "Bob",
    "session_10_date_time": "12:05 am on 29 February, 2024",
    "session_10": [{"speaker": "Ann", "dia_id": "D10:1", "text": "Later."}],
    "session_2_date_time": "1:56 pm on 8 May, 2023",
    "session_2": [
      {"speaker": "Ann", "dia_id": "D2:1", "text": "Look!", "blip_caption": "a photo of a lake", "query": "lake"},
      {"speaker": "Bob", "dia_id": "D2:2", "text": "Nice."}
    ],
    "session_11_date_time": "1:00 pm on 1 May, 2024"
  },
  "qa": [
    {"question": "What did Ann show?", "answer": 7, "evidence": ["D2:1"], "category": 4},
    {"question": " Several? ", "evidence": ["D2:1; D2:2", "D:10:01", "D2:1"], "category": 1},
    {"question": "No evidence?", "evidence": [], "category": 3},
    {"question": "Evidence that is no turn?", "evidence": ["D9:9", "D"], "category": 5}
  ]
}]`

func TestParseLocomo(t *testing.T) {
	collections, err := parseLocomo(strings.NewReader(locomoSample))
	require.NoError(t, err)
	require.Len(t, collections, 1)
	c := collections[0]
	require.EqualValues(t, "conv-1", c.space)

	require.Len(t, c.memories, 3, "sessions in the order of their numbers")
	require.Equal(t, "D2:1", c.memories[0].ID)
	require.Equal(t, "Ann: Look!\na photo of a lake", c.memories[0].Content)
	require.Equal(t, "session_2", c.memories[0].Episode)
	require.Equal(t, time.Date(2023, 5, 8, 13, 56, 0, 0, time.UTC), c.memories[0].Time)
	require.Equal(t, "Bob: Nice.", c.memories[1].Content)
	require.Equal(t, time.Date(2023, 5, 8, 13, 56, 1, 0, time.UTC), c.memories[1].Time)
	require.Equal(t, "D10:1", c.memories[2].ID)
	require.Equal(t, time.Date(2024, 2, 29, 0, 5, 0, 0, time.UTC), c.memories[2].Time)

	require.Equal(t, []question{
		{text: "What did Ann show?", gold: goldOf("D2:1"), groups: []string{"all", "tuning", "category4", "tuning_category4"}},
		{text: "Several?", gold: goldOf("D2:1", "D2:2", "D10:1"), groups: []string{"all", "tuning", "category1", "tuning_category1"}},
	}, c.questions)
}

func TestParseLocomoHalves(t *testing.T) {
	six := "[" + strings.Repeat(strings.Trim(locomoSample, "[]")+",", 5) + strings.Trim(locomoSample, "[]") + "]"
	collections, err := parseLocomo(strings.NewReader(six))
	require.NoError(t, err)
	require.Len(t, collections, 6)
	require.Equal(t, groupTuning, collections[4].questions[0].groups[1])
	require.Equal(t, groupHeldOut, collections[5].questions[0].groups[1])
}

func TestParseLocomoRefusesDamage(t *testing.T) {
	for name, damaged := range map[string]string{
		"not JSON":        locomoSample[:100],
		"no date":         strings.Replace(locomoSample, "session_2_date_time", "session_3_date_time", 1),
		"malformed date":  strings.Replace(locomoSample, "8 May", "8th of May", 1),
		"turns not lists": strings.Replace(locomoSample, `"session_11_date_time"`, `"session_11"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, locomoSample, damaged)
			_, err := parseLocomo(strings.NewReader(damaged))
			require.Error(t, err)
		})
	}
}

func TestEvidenceTurns(t *testing.T) {
	require.Equal(t, []string{"D1:3", "D2:5", "D30:5", "D11:26"}, evidenceTurns([]string{"D1:3; D2:5", "D30:05", "D:11:26", "D", ""}))
}
