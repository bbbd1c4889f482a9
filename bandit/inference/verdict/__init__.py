"""The verdict: what the tests establish together, and the advice that follows.

- `claims`: what the test of one challenger on one metric says: better, worse, harmful;
- `assessment`: all evidence about an experiment, from one reading of its facts;
- `advice`: promote, roll back, trip, retire, check or wait.

All of it is numbers; the service puts them into sentences.
"""
