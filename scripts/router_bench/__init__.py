"""What `bench_router` is made of: markets at random, a graph search as others do it, a book under churn."""
