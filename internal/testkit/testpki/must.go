package testpki

// Fataler ends a test: *testing.T, *testing.B and *testing.F are ones.
type Fataler interface {
	Helper()
	Fatal(args ...any)
}

// MustCA makes a good root CA, or ends the test.
func MustCA(t Fataler, commonName string) *CA {
	t.Helper()
	return MustNewCA(t, Authority(commonName))
}

// MustNewCA is [NewCA] for tests.
func MustNewCA(t Fataler, template Template) *CA {
	t.Helper()
	ca, err := NewCA(template)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// MustIssue is [CA.Issue] for tests.
func (ca *CA) MustIssue(t Fataler, template Template) *Pair {
	t.Helper()
	pair, err := ca.Issue(template)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// MustIntermediate is [CA.Intermediate] for tests.
func (ca *CA) MustIntermediate(t Fataler, template Template) *CA {
	t.Helper()
	below, err := ca.Intermediate(template)
	if err != nil {
		t.Fatal(err)
	}
	return below
}

// MustCRL is [CA.CRL] for tests.
func (ca *CA) MustCRL(t Fataler, list CRL) []byte {
	t.Helper()
	text, err := ca.CRL(list)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
